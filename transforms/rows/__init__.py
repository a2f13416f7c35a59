"""Passes over the rows: assign, measure, scale."""
