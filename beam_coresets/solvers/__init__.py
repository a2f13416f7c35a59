"""Centers, subspaces and constrained clusters of weighted points."""
