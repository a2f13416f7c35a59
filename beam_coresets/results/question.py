"""What is asked of the data: how many centers, of which kind, under which constraint."""
from __future__ import annotations

import dataclasses
from typing import Any

from beam_coresets.points.nearest import Metric
from beam_coresets.sampling.importance import Sampler
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.solver import CANDIDATES_PER_CENTER, check_choices


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of each window's coreset.

    Attributes:
      sampler: how the coreset is made: k, z, size and method.
      metric: "euclidean" or "cosine".
      seed: seeds sampling and solving.
      solve: whether centers are wanted.
      quick: solves with a tenth of the search: for thousands of small keys.
      kind: what the shards sent: "coreset", "local_centers" or "pca".
      r, affine: centers are r-dimensional subspaces, through the origin unless affine; 0 for centers.
      delta: of kind "pca", the slack of what the shards sent.
      candidates: of a weak coreset, places that centers may be chosen from; 0 for none.
      constraint: what clusters must keep to; None for nothing.
      exhaustive: under a constraint all choices of candidates are tried, and the factor is proved.
      columns: names of the coordinates, or of the one column of vectors; None where there are none.
      asked: further columns of `summaries`, by name: parameters that are declared with `column`.
    """

    sampler: Sampler
    metric: Metric = "euclidean"
    seed: int = 0
    solve: bool = True
    quick: bool = False
    kind: str = "coreset"
    r: int = 0
    affine: bool = False
    delta: float = 0.1
    candidates: int = 0
    constraint: Constraint | None = None
    exhaustive: bool = False
    columns: tuple[str, ...] | None = None
    asked: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric: must be euclidean or cosine, got {self.metric!r}")
        if self.r and self.metric != "euclidean":
            raise ValueError(f"metric: must be euclidean with r = {self.r}, got {self.metric!r}")
        if self.affine and not self.r:
            raise ValueError("affine: must be left out without r, got True")
        if self.candidates and self.candidates < self.sampler.k:
            raise ValueError(f"candidates: must be at least k = {self.sampler.k}, got {self.candidates}")
        if self.constraint is not None:
            self.constraint.check_clusters(self.sampler.k)
        if self.exhaustive and self.constraint is None:
            raise ValueError("exhaustive: must be left out without a constraint, got True")
        if self.exhaustive and self.constraint is not None:
            check_choices(self.constraint, self.sampler.k, self.candidates or CANDIDATES_PER_CENTER * self.sampler.k)
        if self.constraint is not None and (self.r or self.kind != "coreset"):
            what = f"r = {self.r}" if self.r else f"summary {self.kind}"
            raise ValueError(f"constraint: must be on centers of a coreset, got {what}")
        what = "a constraint" if self.constraint is not None else "weak" if self.candidates else f"summary {self.kind}"
        if self.sampler.outliers and (self.kind != "coreset" or self.constraint is not None or self.candidates):
            raise ValueError(f"outliers: must be left out with {what}, got {self.sampler.outliers:g}")
