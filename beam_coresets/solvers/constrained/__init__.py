"""Clusters under constraints: sizes, shares of labels, diversity."""
