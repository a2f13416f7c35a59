"""Rows to clusters."""
