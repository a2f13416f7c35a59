"""Measured distortion: how far a coreset's cost is from the data's, over center sets of many kinds."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator
from beam_coresets.points.flats import coordinates, nearest_flat
from beam_coresets.points.nearest import Metric, nearest
from beam_coresets.points.seeding import dz_seeding
from beam_coresets.solvers.model import point_costs
from beam_coresets.solvers.subspaces import Subspaces, solve_subspaces

Array = npt.NDArray[Any]

PERTURBATIONS = (0.3, 1.0, 3.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One center set's cost on both sides.

    Attributes:
      name: what kind of center set: full, own, perturbed, random, kmeans++.
      data, coreset: cost on all data, cost on the coreset.
    """

    name: str
    data: float
    coreset: float

    @property
    def distortion(self) -> float:
        """max(data / coreset, coreset / data), at least 1."""
        if self.data == self.coreset:
            return 1.0
        low, high = sorted((self.data, self.coreset))
        return float("inf") if low <= 0 else high / low


def center_sets(
    sample: Array, best: Array, own: Sequence[Array], z: float = 2.0, metric: Metric = "euclidean", seed: int = 5
) -> list[tuple[str, Array]]:
    """The center sets that distortion is measured on.

    Args:
      sample: (n, d) a uniform sample of the data (or all of it).
      best: (k, d) the best known centers of the data.
      own: solutions found on the coreset.

    Returns:
      (name, centers): full, own (each), the best perturbed by 0.3 to 10 times the typical deviation in one coordinate,
      four random choices of points, two D^z seedings. Under the cosine metric all are of unit length.
    """
    rng = generator("center sets", seed)
    k = len(best)
    _, dist_sq = nearest(sample[:20_000], best)
    step = float(np.median(np.sqrt(dist_sq))) / np.sqrt(sample.shape[1])
    found = [("full", best), *(("own", c) for c in own)]
    found += [(f"perturbed {s:g}", best + rng.standard_normal(best.shape) * step * s) for s in PERTURBATIONS]
    rows = [rng.choice(len(sample), min(k, len(sample)), replace=False) for _ in range(4)]
    found += [("random", sample[r]) for r in rows]
    for _ in range(2):
        part = sample[rng.choice(len(sample), min(len(sample), 100_000), replace=False)]
        found.append(("kmeans++", part[dz_seeding(part, np.ones(len(part)), k, z, rng)]))
    return [(name, _unit(c) if metric == "cosine" else np.asarray(c, np.float64)) for name, c in found]


def subspace_sets(
    sample: Array, best: Subspaces, own: Sequence[Subspaces], seed: int = 5
) -> list[tuple[str, Subspaces]]:
    """The sets of flats that distortion is measured on, as `center_sets`.

    Perturbed ones are moved by 0.3 to 10 times the typical residual in one coordinate, and turned by as much at the
    typical distance of projections from their center; random ones go through r (affine: r + 1) points each.
    """
    rng = generator("subspace sets", seed)
    points = sample[:20_000].astype(np.float64)
    k, r, d = best.bases.shape
    index, dist_sq = nearest_flat(points, best.flats)
    step = float(np.median(np.sqrt(dist_sq))) / np.sqrt(d - r)
    extent = np.sqrt((coordinates(points, best.flats, index) ** 2).mean()) or 1.0
    found = [("full", best), *(("own", flats) for flats in own)]
    for s in PERTURBATIONS:
        centers = best.centers + best.affine * rng.standard_normal((k, d)) * step * s
        turned = best.bases + rng.standard_normal((k, r, d)) * (step * s / extent)
        bases = np.ascontiguousarray(np.linalg.qr(turned.transpose(0, 2, 1))[0].transpose(0, 2, 1))
        found.append((f"perturbed {s:g}", Subspaces(centers, bases, best.affine)))
    least = r + best.affine
    for _ in range(4):
        own_points = [points[rng.choice(len(points), min(least, len(points)), replace=False)] for _ in range(k)]
        parts = [solve_subspaces(p, np.ones(len(p)), 1, r, affine=best.affine) for p in own_points]
        flats = [np.concatenate([getattr(part, name) for part in parts]) for name in ("centers", "bases")]
        found.append(("random", Subspaces(flats[0], flats[1], best.affine)))
    return found


def _unit(centers: Array) -> Array:
    centers = np.asarray(centers, np.float64)
    length = np.linalg.norm(centers, axis=1, keepdims=True)
    return centers / np.where(length > 0, length, 1.0)


def costs(
    points: Array,
    weights: Array,
    sets: Sequence[tuple[str, Array | Subspaces]],
    z: float = 2.0,
    metric: Metric = "euclidean",
    most: Array | None = None,
) -> Array:
    """The cost of each set of centers (or of flats) on weighted points, (len(sets),) float64.

    Args:
      most: (len(sets),) what a point costs at most under each; None for no limit.
    """
    if not len(points):
        return np.zeros(len(sets))
    found = [
        nearest_flat(points, c.flats) if isinstance(c, Subspaces) else point_costs(points, c, z, metric)
        for _, c in sets
    ]
    limits = np.full(len(sets), np.inf) if most is None else most
    return np.array([np.minimum(cost, limit) @ weights for (_, cost), limit in zip(found, limits, strict=True)])
