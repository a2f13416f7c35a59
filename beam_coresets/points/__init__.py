"""Blocks of points, weighted coresets of them, and distances."""
