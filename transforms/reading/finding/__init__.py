"""Paths and patterns -> files, and what their folders say of them."""
