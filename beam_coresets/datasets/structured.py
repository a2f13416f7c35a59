"""Seeded data with a structure that is known: subspaces, low rank, groups."""
from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.datasets.synthetic import Instance, Labels, _directions, _log_uniform, _require
from beam_coresets.hashing import generator

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class PlantedSubspaces(Instance):
    """Points along r-dimensional subspaces, Gaussian in them and around them, of uneven shares, extents and noise.

    Attributes:
      d: coordinates.
      k: subspaces, in uniformly random directions.
      r: their dimension, below d.
      affine: each passes through a center uniform in [-box, box]^d; else through the origin.
      concentration: of the Dirichlet distribution of their shares; below 1 is unbalanced, large is balanced.
      least_share: the smallest share (before the shares are normalised).
      extent: (low, high) of the standard deviations along a subspace, drawn on a logarithmic scale for each direction.
      noise: (low, high) of the standard deviation around it, per coordinate, likewise.
      outliers: share of points of no subspace, in uniform directions.
      radius: (low, high) of their distances from the origin.
    """

    d: int = 10
    k: int = 4
    r: int = 1
    affine: bool = True
    box: float = 20.0
    concentration: float = 1.0
    least_share: float = 0.01
    extent: tuple[float, float] = (3.0, 30.0)
    noise: tuple[float, float] = (0.1, 1.0)
    outliers: float = 0.0
    radius: tuple[float, float] = (100.0, 300.0)

    def __post_init__(self) -> None:
        _require(self.k >= 1, "k", "must be at least 1", self.k)
        _require(self.r >= 1, "r", "must be at least 1", self.r)
        _require(self.r < self.d, "r", f"must be below d = {self.d}", self.r)
        _require(self.box >= 0, "box", "must not be negative", self.box)
        _require(self.concentration > 0, "concentration", "must be positive", self.concentration)
        _require(self.least_share >= 0, "least_share", "must not be negative", self.least_share)
        _require(0 < self.extent[0] <= self.extent[1], "extent", "must be 0 < low <= high", self.extent)
        _require(0 < self.noise[0] <= self.noise[1], "noise", "must be 0 < low <= high", self.noise)
        _require(0 <= self.outliers <= 1, "outliers", "must be a share between 0 and 1", self.outliers)
        _require(0 <= self.radius[0] <= self.radius[1], "radius", "must be 0 <= low <= high", self.radius)

    @functools.cached_property
    def _shape(self) -> tuple[Array, Array, Array, Array, Array]:
        rng = generator(self.seed, "PlantedSubspaces", "shape")
        shares = np.maximum(rng.dirichlet(np.full(self.k, self.concentration)), self.least_share)
        centers = rng.uniform(-self.box, self.box, (self.k, self.d)) * self.affine
        bases = np.linalg.qr(rng.standard_normal((self.k, self.d, self.r)))[0].transpose(0, 2, 1)
        extents = _log_uniform(rng, self.extent, (self.k, self.r))
        return shares / shares.sum(), centers, bases, extents, _log_uniform(rng, self.noise, (self.k,))

    @property
    def shares(self) -> Array:
        """(k,) the subspaces' shares of the points that are no outliers."""
        return self._shape[0]

    @functools.cached_property
    def centers(self) -> Array:
        """(k, d) a point on each."""
        return self._shape[1]

    @property
    def bases(self) -> Array:
        """(k, r, d) orthonormal directions of each."""
        return self._shape[2]

    @property
    def deviations(self) -> Array:
        """(k,) standard deviation around each, per coordinate; along it this comes on top of the extent."""
        return self._shape[4]

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        shares, centers, bases, extents, noise = self._shape
        labels = rng.choice(self.k, rows, p=shares).astype(np.int32)
        along = extents[labels] * rng.standard_normal((rows, self.r))
        points = centers[labels] + np.einsum("nr,nrd->nd", along, bases[labels])
        points += noise[labels, None] * rng.standard_normal((rows, self.d))
        far = rng.random(rows) < self.outliers
        count = int(far.sum())
        points[far] = _directions(rng, count, self.d) * rng.uniform(*self.radius, (count, 1))
        labels[far] = -1
        return points, labels


@dataclasses.dataclass(frozen=True)
class LowRank(Instance):
    """Gaussian points about one center: a few strong directions, weaker one after another, and noise in all.

    Attributes:
      d: coordinates.
      rank: strong directions, in a random rotation.
      extent: standard deviation along the first of them.
      decay: that along the j-th is extent * j**-decay.
      noise: standard deviation in every direction, added to all.
      offset: of the center, in every coordinate.
    """

    d: int = 200
    rank: int = 10
    extent: float = 10.0
    decay: float = 0.5
    noise: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        _require(self.d >= 1, "d", "must be at least 1", self.d)
        _require(1 <= self.rank <= self.d, "rank", f"must be from 1 to d = {self.d}", self.rank)
        _require(self.extent > 0, "extent", "must be positive", self.extent)
        _require(self.decay >= 0, "decay", "must not be negative", self.decay)
        _require(self.noise >= 0, "noise", "must not be negative", self.noise)

    @functools.cached_property
    def centers(self) -> Array:
        return np.full((1, self.d), self.offset)

    @functools.cached_property
    def basis(self) -> Array:
        """(rank, d) the strong directions, orthonormal, strongest first."""
        rng = generator(self.seed, "LowRank", "shape")
        return np.ascontiguousarray(np.linalg.qr(rng.standard_normal((self.d, self.rank)))[0].T)

    @property
    def deviations(self) -> Array:
        """(rank,) standard deviation along each of them, noise not counted."""
        return np.asarray(self.extent * np.arange(1, self.rank + 1) ** -self.decay)

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        along = rng.standard_normal((rows, self.rank)) * self.deviations
        points = self.centers + along @ self.basis + self.noise * rng.standard_normal((rows, self.d))
        return points, np.zeros(rows, np.int32)


@dataclasses.dataclass(frozen=True)
class Grouped(Instance):
    """A table of people, about: skewed columns, clusters, and groups that some clusters have many of, some few.

    Attributes:
      d: coordinates; every other one is skewed (log-normal about the cluster).
      k: clusters, with centers uniform in [-box, box]^d and shares from a Dirichlet distribution with parameter 3.
      groups: how many there are.
      tilt: parameter of the Dirichlet distribution of each cluster's shares of the groups: small keeps them apart.
      shift: distance between the groups within a cluster, in standard deviations.
      box: half the width of the box.
    """

    d: int = 6
    k: int = 8
    groups: int = 2
    tilt: float = 0.5
    shift: float = 1.0
    box: float = 4.0

    def __post_init__(self) -> None:
        for name in ("d", "k", "groups"):
            _require(getattr(self, name) >= 1, name, "must be at least 1", getattr(self, name))
        for name in ("tilt", "box"):
            _require(getattr(self, name) > 0, name, "must be positive", getattr(self, name))
        _require(self.shift >= 0, "shift", "must not be negative", self.shift)

    @functools.cached_property
    def _shape(self) -> tuple[Array, Array, Array, Array]:
        rng = generator(self.seed, "Grouped", "shape")
        centers = rng.uniform(-self.box, self.box, (self.k, self.d))
        return (
            centers,
            rng.dirichlet(np.full(self.k, 3.0)),
            rng.dirichlet(np.full(self.groups, self.tilt), self.k),
            self.shift * _directions(rng, self.groups, self.d) / np.sqrt(2),
        )

    @functools.cached_property
    def centers(self) -> Array:
        return self._shape[0]

    def group(self, i: int, rows: int) -> Labels:
        """(rows,) int32: the group, from 0 on, of each row of `block(i, rows)`."""
        return self._rows(generator(self.seed, type(self).__name__, "block", i), rows)[2]

    def _draw(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels]:
        return self._rows(rng, rows)[:2]

    def _rows(self, rng: np.random.Generator, rows: int) -> tuple[Array, Labels, Labels]:
        centers, shares, tilts, shifts = self._shape
        labels = rng.choice(self.k, rows, p=shares).astype(np.int32)
        group = (rng.random(rows)[:, None] > np.cumsum(tilts, axis=1)[labels][:, :-1]).sum(axis=1).astype(np.int32)
        noise = rng.standard_normal((rows, self.d))
        noise[:, 1::2] = np.expm1(0.5 * noise[:, 1::2])
        return centers[labels] + shifts[group] + noise, labels, group
