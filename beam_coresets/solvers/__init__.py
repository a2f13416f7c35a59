"""Solvers that answer questions on a weighted set of points."""
