"""Blocks or parts -> the shards' reports."""
