"""Seeded data generators of any size, made block by block: block i depends on the seed and on i only.

Every generator is a frozen dataclass with the true `centers`, `block(i, rows)` with its `labels(i, rows)`, `blocks(n)`
and, for what fits into memory, `points(n)`.
"""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator
from beam_coresets.points.block import block_rows

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class Instance:
    """What all generators share; a subclass says what its centers are and draws the rows of one block.

    Attributes:
      seed: of everything drawn, centers included.
    """

    seed: int = 0

    @property
    def dim(self) -> int:
        """Coordinates of a point."""
        return int(self.centers.shape[1])

    @functools.cached_property
    def centers(self) -> Array:
        """(k, d) float64: where the clusters really are."""
        raise NotImplementedError

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        """`rows` points (rows, d) and their labels; -1 for points of no cluster."""
        raise NotImplementedError

    def _made(self, i: int, rows: int) -> tuple[Array, Labels]:
        if i < 0:
            raise ValueError(f"i: must not be negative, got {i}")
        if rows < 0:
            raise ValueError(f"rows: must not be negative, got {rows}")
        return self._draw(generator(self.seed, type(self).__name__, "block", i), rows)

    def block(self, i: int, rows: int) -> npt.NDArray[np.float32]:
        """(rows, d) float32: the i-th block of that many rows.

        Raises:
          ValueError: i or rows is negative.
        """
        return np.ascontiguousarray(self._made(i, rows)[0], np.float32)

    def labels(self, i: int, rows: int) -> Labels:
        """(rows,) int32: the true cluster of each row of `block(i, rows)`, -1 for outliers."""
        return self._made(i, rows)[1]

    def blocks(self, n: int, rows: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        """n points in blocks of `rows` (by default as many as a PointBlock holds); the last may be shorter."""
        rows = block_rows(self.dim) if rows is None else rows
        if n < 0 or rows < 1:
            raise ValueError(f"n, rows: must be at least 0 and 1, got {n} and {rows}")
        for i, low in enumerate(range(0, n, rows)):
            yield self.block(i, min(rows, n - low))

    def points(self, n: int, rows: int | None = None) -> npt.NDArray[np.float32]:
        """(n, d) float32: the blocks of `blocks(n, rows)` in one array."""
        return np.concatenate([np.empty((0, self.dim), np.float32), *self.blocks(n, rows)])


def _require(holds: bool, name: str, requirement: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{name}: {requirement}, got {value}")


def _directions(rng: np.random.Generator, rows: int, d: int) -> Array:
    """Uniform on the unit sphere."""
    u = rng.standard_normal((rows, d))
    unit: Array = u / np.linalg.norm(u, axis=1, keepdims=True)
    return unit


@dataclasses.dataclass(frozen=True)
class GaussianMixture(Instance):
    """Unbalanced spherical Gaussian clusters with a share of far outliers.

    Attributes:
      d: coordinates.
      k: clusters, with centers uniform in [-box, box]^d.
      concentration: of the Dirichlet distribution of cluster shares; below 1 is unbalanced, large is balanced.
      least_share: the smallest share of a cluster (before the shares are normalised).
      spread: (low, high) of the clusters' standard deviations, drawn uniformly.
      outliers: share of points of no cluster, in uniform directions.
      radius: (low, high) of their distances from the origin.
    """

    d: int = 8
    k: int = 20
    box: float = 50.0
    concentration: float = 0.5
    least_share: float = 0.0005
    spread: tuple[float, float] = (0.5, 4.0)
    outliers: float = 0.01
    radius: tuple[float, float] = (300.0, 1000.0)

    def __post_init__(self) -> None:
        _require(self.d >= 1, "d", "must be at least 1", self.d)
        _require(self.k >= 1, "k", "must be at least 1", self.k)
        _require(self.box >= 0, "box", "must not be negative", self.box)
        _require(self.concentration > 0, "concentration", "must be positive", self.concentration)
        _require(self.least_share >= 0, "least_share", "must not be negative", self.least_share)
        _require(0 <= self.spread[0] <= self.spread[1], "spread", "must be 0 <= low <= high", self.spread)
        _require(0 <= self.outliers <= 1, "outliers", "must be a share between 0 and 1", self.outliers)
        _require(0 <= self.radius[0] <= self.radius[1], "radius", "must be 0 <= low <= high", self.radius)

    @functools.cached_property
    def _shape(self) -> tuple[Array, Array, Array]:
        rng = generator(self.seed, "GaussianMixture", "shape")
        shares = np.maximum(rng.dirichlet(np.full(self.k, self.concentration)), self.least_share)
        centers = rng.uniform(-self.box, self.box, (self.k, self.d))
        return shares / shares.sum(), centers, rng.uniform(*self.spread, self.k)

    @functools.cached_property
    def centers(self) -> Array:
        return self._shape[1]

    @property
    def shares(self) -> Array:
        """(k,) the clusters' shares of the points that are no outliers."""
        return self._shape[0]

    @property
    def deviations(self) -> Array:
        """(k,) standard deviation of each cluster, per coordinate."""
        return self._shape[2]

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        shares, centers, deviations = self._shape
        labels = rng.choice(self.k, rows, p=shares).astype(np.int32)
        points = centers[labels] + deviations[labels, None] * rng.standard_normal((rows, self.d))
        far = rng.random(rows) < self.outliers
        count = int(far.sum())
        points[far] = _directions(rng, count, self.d) * rng.uniform(*self.radius, (count, 1))
        labels[far] = -1
        return points, labels


@dataclasses.dataclass(frozen=True)
class HeavyTails(Instance):
    """Student-t clusters plus a Gaussian whose scale is Pareto distributed, row by row.

    Attributes:
      d: coordinates.
      k: clusters, with normal centers of deviation 4.
      freedom: degrees of freedom of Student's t, above 2 for a finite variance.
      tail: exponent of the Pareto (Lomax) scale.
    """

    d: int = 64
    k: int = 50
    freedom: float = 2.2
    tail: float = 2.5

    def __post_init__(self) -> None:
        _require(self.d >= 1, "d", "must be at least 1", self.d)
        _require(self.k >= 1, "k", "must be at least 1", self.k)
        _require(self.freedom > 0, "freedom", "must be positive", self.freedom)
        _require(self.tail > 0, "tail", "must be positive", self.tail)

    @functools.cached_property
    def _shape(self) -> tuple[Array, Array]:
        rng = generator(self.seed, "HeavyTails", "shape")
        return rng.dirichlet(np.ones(self.k)), 4 * rng.standard_normal((self.k, self.d))

    @functools.cached_property
    def centers(self) -> Array:
        return self._shape[1]

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        shares, centers = self._shape
        labels = rng.choice(self.k, rows, p=shares).astype(np.int32)
        points = centers[labels] + rng.standard_t(self.freedom, (rows, self.d))
        points += rng.standard_normal((rows, self.d)) * rng.pareto(self.tail, (rows, 1))
        return points, labels


@dataclasses.dataclass(frozen=True)
class UnitVectors(Instance):
    """Embedding-like rows of unit length: clusters and noise share a spectrum that decays, in a random rotation.

    Attributes:
      d: coordinates.
      k: clusters.
      decay: coordinate t of the unrotated space has deviation (t + 1)**-decay.
      separation: deviation of the clusters' centers over that of the noise.
      noise_shape: of the gamma distribution (mean 1) of each row's noise level; small is more uneven.
    """

    d: int = 768
    k: int = 100
    decay: float = 0.6
    separation: float = 1.5
    noise_shape: float = 2.0

    def __post_init__(self) -> None:
        _require(self.d >= 2, "d", "must be at least 2", self.d)
        _require(self.k >= 1, "k", "must be at least 1", self.k)
        _require(self.decay >= 0, "decay", "must not be negative", self.decay)
        _require(self.separation > 0, "separation", "must be positive", self.separation)
        _require(self.noise_shape > 0, "noise_shape", "must be positive", self.noise_shape)

    @functools.cached_property
    def _shape(self) -> tuple[Array, Array, Array, Array]:
        rng = generator(self.seed, "UnitVectors", "shape")
        spectrum = (np.arange(1, self.d + 1) ** -self.decay).astype(np.float32)
        rotation = np.linalg.qr(rng.standard_normal((self.d, self.d)))[0].astype(np.float32)
        means = rng.standard_normal((self.k, self.d)) * spectrum * self.separation
        return rng.dirichlet(np.ones(self.k)), means.astype(np.float32), spectrum, rotation

    @functools.cached_property
    def centers(self) -> Array:
        _, means, _, rotation = self._shape
        rotated = means.astype(np.float64) @ rotation
        unit: Array = rotated / np.linalg.norm(rotated, axis=1, keepdims=True)
        return unit

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        shares, means, spectrum, rotation = self._shape
        labels = rng.choice(self.k, rows, p=shares).astype(np.int32)
        level = rng.gamma(self.noise_shape, 1 / self.noise_shape, (rows, 1)).astype(np.float32)
        noise = rng.standard_normal((rows, self.d), np.float32) * spectrum * level
        points = (means[labels] + noise) @ rotation
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return points, labels


@dataclasses.dataclass(frozen=True)
class SSet(Instance):
    """Round Gaussian clusters in the plane that overlap a little: the shape of the S1 benchmark set at n = 5,000.

    Fraenti and Sieranoja, *K-means properties on six clustering benchmark datasets* (2018).

    Attributes:
      k: clusters of equal shares; centers uniform in the square [0, side]^2, `gap` deviations or more apart.
      side: of the square.
      deviation: of each cluster, per coordinate.
      gap: least distance of two centers, in deviations.
    """

    k: int = 15
    side: float = 1_000_000.0
    deviation: float = 30_000.0
    gap: float = 4.5

    def __post_init__(self) -> None:
        _require(self.k >= 1, "k", "must be at least 1", self.k)
        _require(self.side > 0, "side", "must be positive", self.side)
        _require(self.deviation >= 0, "deviation", "must not be negative", self.deviation)
        _require(self.gap >= 0, "gap", "must not be negative", self.gap)
        # Discs of half the gap fill at most this share of the square by drawing at random (it jams near 0.547).
        room = 0.4 * self.side**2 / (np.pi * (0.5 * self.gap * self.deviation) ** 2 or 1.0)
        if self.gap * self.deviation > 0:
            _require(self.k <= max(1.0, room), "k", f"must be at most {room:.0f} for this gap and side", self.k)

    @functools.cached_property
    def centers(self) -> Array:
        rng = generator(self.seed, "SSet", "shape")
        centers = np.empty((0, 2))
        while len(centers) < self.k:
            drawn = rng.uniform(0, self.side, (1, 2))
            if (np.linalg.norm(centers - drawn, axis=1) >= self.gap * self.deviation).all():
                centers = np.concatenate([centers, drawn])
        return centers

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        labels = rng.integers(self.k, size=rows).astype(np.int32)
        return self.centers[labels] + self.deviation * rng.standard_normal((rows, 2)), labels


def _log_uniform(rng: np.random.Generator, span: tuple[float, float], shape: tuple[int, ...]) -> Array:
    return np.asarray(np.exp(rng.uniform(np.log(span[0]), np.log(span[1]), shape)))
