"""Passes over all rows, for commands that need more than one."""
