"""Data that no small coreset stands for: the lower-bound instances of the optimal coreset paper, at a relaxed scale.

Huang, Li and Wu, *On Optimal Coreset Construction for Euclidean (k, z)-Clustering*, Section 2. Random subsets B_i of
the coordinates, t^2 of them each and no two alike, are split in halves; for each coordinate j of the first half there
is a point t e_j + (1 / t) (1 on the first half, -1 on the second). Far-apart copies of that make the instance. Whoever
knows a coreset S can place a center for each subset that is a little farther from the points in S than from the others:
then S reports too large a cost, whatever its weights. Fixed centers show nothing; they must be built from S.

The proof wants t >= 10000, B = 100 t^2 coordinates or more, and subsets that share at most a tenth. What Claim 2.2
needs is that they share less than 0.7 t^2, so that each point's own center is its nearest, and that is asked for here,
with `room` in place of 100. Everything else is as printed, and the error is exact at any scale.
"""
from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator

# d^2 to a point's own center is 1.82 t^2 - (this) t + 3, for points in S and others (Claim 2.2)
FAR_SLOPE, NEAR_SLOPE = 3.4, 3.8
OVERLAP = 0.7
TRIES = 1000
COVERED = 0.2  # the proof's S leaves out 0.2 k^(3/2) of 0.25 k^(3/2) points; what it does with less is worse
PROVED_ERROR = 0.01  # and errs by more than 0.01 / t

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class HardInstance:
    """Copies of X, each the points of `sets` subsets of `room` t^2 coordinates or more.

    Attributes:
      k: centers that coresets of it are for; half of them attack one copy.
      t: an even number; subsets have t^2 coordinates.
      dim: B, the coordinates of a copy. There is one more, which keeps copies apart.
      sets: subsets in a copy.
      copies: how many.
      z: power of the distance.
      seed: of the subsets; all copies have the same.

    Raises:
      ValueError: a number that doesn't fit the others, or no such subsets found.
    """

    k: int
    t: int
    dim: int
    sets: int
    copies: int = 1
    z: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.t < 2 or self.t % 2:
            raise ValueError(f"t: must be even and at least 2, got {self.t}")
        if self.dim < self.t**2:
            raise ValueError(f"dim: must be at least t^2 = {self.t**2}, got {self.dim}")
        if self.k < 2 or self.copies < 1 or self.sets < self.k // 2:
            raise ValueError(
                f"k, copies, sets: must be at least 2, 1 and k / 2, got {self.k}, {self.copies} and {self.sets}"
            )
        if not self.z >= 1:
            raise ValueError(f"z: must be at least 1, got {self.z}")

    @functools.cached_property
    def halves(self) -> tuple[Array, Array]:
        """(sets, t^2 / 2) each: the coordinates of every subset's first half, where its points are, and of its
        second."""
        rng = generator(self.seed, "lower bound", self.t, self.dim, self.sets)
        size, most = self.t**2, OVERLAP * self.t**2
        taken = np.zeros((self.sets, self.dim), np.float32)
        chosen = np.empty((self.sets, size), np.int64)
        for i in range(self.sets):
            for _ in range(TRIES):
                drawn = rng.choice(self.dim, size, replace=False)
                if not i or taken[:i, drawn].sum(axis=1).max() < most:
                    break
            else:
                raise ValueError(f"sets: must be so few that they share less than {most:g}, got {self.sets}")
            chosen[i], taken[i, drawn] = drawn, 1
        return chosen[:, : size // 2], chosen[:, size // 2 :]

    @functools.cached_property
    def points(self) -> Array:
        """(copies * sets * t^2 / 2, dim + 1) float64: copy by copy, and subset by subset in it."""
        first, second = self.halves
        base = np.zeros((self.sets, self.dim + 1))
        rows = np.arange(self.sets)[:, None]
        base[rows, first], base[rows, second] = 1 / self.t, -1 / self.t
        one = np.repeat(base, first.shape[1], axis=0)
        one[np.arange(len(one)), first.ravel()] += self.t
        whole = np.tile(one, (self.copies, 1))
        whole[:, -1] = np.repeat(np.arange(self.copies), len(one)) * self.apart
        return whole

    @property
    def apart(self) -> float:
        """Distance of neighbouring copies, many times the diameter of one."""
        return 100.0 * self.t

    def centers(self, sampled: Array, farther: bool = True) -> Array:
        """The centers that the proof builds from a coreset.

        Other copies get their a_j, at distance 1 of every point. The copy that S has the least of (and of it, where
        there are more than k / 2 subsets, those that S has the least of) gets a center for each subset, and the other
        subsets, as in Section 2.2, one at the same distance from all of their points.

        Args:
          sampled: (m,) rows of `points` that are in S.
          farther: put S's points farther than the others, so that S reports too much; else the reverse.

        Returns:
          (k', dim + 1): k / 2 centers, one more with more subsets than that, and `dim` for each other copy.
        """
        held, copy, attacked = self._weak_spot(sampled)
        found = np.zeros((len(attacked), self.dim + 1))
        first, second = self.halves
        for i, subset in enumerate(attacked):
            far = held[copy, subset] if farther else ~held[copy, subset]
            found[i, first[subset]] = np.where(far, 0.8, 1.0)
            found[i, second[subset]] = -1.0
            found[i, second[subset][: (~far).sum()]] = -0.8
        if self.sets > len(attacked):
            found = np.concatenate([found, [self._equally_far()]])
        found[:, -1] = copy * self.apart
        others = [self._anchors(i) for i in range(self.copies) if i != copy]
        return np.concatenate([found, *others])

    def centers_far_away(self, copy: int, epsilon: float) -> Array:
        """Claim 2.1's centers: the anchors of the other copies, and one so far away that it weighs this copy.

        Args:
          epsilon: the error that the claim is about.
        """
        center = np.zeros((1, self.dim + 1))
        center[0, 0] = -100.0 * self.k * self.t / epsilon
        center[0, -1] = copy * self.apart
        return np.concatenate([center, *(self._anchors(i) for i in range(self.copies) if i != copy)])

    def _anchors(self, copy: int) -> Array:
        anchors = np.zeros((self.dim, self.dim + 1))
        anchors[np.arange(self.dim), np.arange(self.dim)] = self.t
        anchors[:, -1] = copy * self.apart
        return anchors

    def _equally_far(self) -> Array:
        """c* = alpha (1, .., 1) with d^2 = 1.82 t^2 - 3.4 t + 3 to every point."""
        t, dim = self.t, self.dim
        inside = t**2 + dim * (0.82 * t**2 - FAR_SLOPE * t)
        if inside < 0:
            raise ValueError(f"t: must be at least 6 for more subsets than k / 2 = {self.k // 2}, got {t}")
        center = np.full(dim + 1, (t + math.sqrt(inside)) / dim)
        center[-1] = 0.0
        return center

    def exact_error(self, sampled: Array, weights: Array, farther: bool = True) -> float:
        """What `centers(sampled, farther)` must measure: cost of S over cost of P, minus one, from Claim 2.2 alone.

        With one copy, k / 2 subsets, z = 2 and w(S) = |X| it is `formula(t, f)`.

        Args:
          weights: (m,) of the sampled rows.
        """
        weight = np.zeros(len(self.points))
        weight[sampled] = weights
        held, copy, attacked = self._weak_spot(sampled)
        far = np.ones((self.sets, held.shape[2]), np.bool_)
        far[attacked] = held[copy, attacked] if farther else ~held[copy, attacked]
        cost = np.ones(held.shape)
        cost[copy] = np.where(far, distance_sq(self.t, FAR_SLOPE), distance_sq(self.t, NEAR_SLOPE)) ** (self.z / 2)
        return float(weight @ cost.ravel() / cost.sum() - 1)

    def _weak_spot(self, sampled: Array) -> tuple[Array, int, Array]:
        """Which points are in S, (copies, sets, t^2 / 2) bool; the copy with the fewest; the k / 2 subsets with the
        fewest there."""
        flat = np.zeros(len(self.points), np.bool_)
        flat[sampled] = True
        held = flat.reshape(self.copies, self.sets, -1)
        copy = int(held.sum(axis=(1, 2)).argmin())
        return held, copy, np.sort(np.argsort(held[copy].sum(axis=1), kind="stable")[: self.k // 2])

    @property
    def scale(self) -> float:
        """The epsilon that the theorem speaks of here, up to a constant: 1 / t, or less with more subsets than
        k / 2."""
        return self.k / 2 / (self.sets * self.t)

    def proved_error(self, size: int) -> float:
        """The theorem's curve: no coreset of so few points errs by less.

        Theorem 1.2 read as a formula for the error: with the proof's constants a fifth of the points errs by 0.01
        epsilon, and size grows with epsilon^(-z - 2), in Section 2.2 with 1 / epsilon. Of more points than a fifth the
        proof says nothing: 0.
        """
        if size > COVERED * len(self.points):
            return 0.0
        exponent = 1 / (self.z + 2) if self.sets == self.k // 2 else 1.0
        return float(PROVED_ERROR * self.scale * (COVERED * len(self.points) / size) ** exponent)


def distance_sq(t: float, step: float) -> float:
    """Claim 2.2: 1.82 t^2 - step t + 3."""
    return 1.82 * t**2 - step * t + 3


def formula(t: float, share: float) -> float:
    """The error at z = 2 of any weighted subset that holds this share of X and has w(S) = |X|, one copy."""
    gap = (NEAR_SLOPE - FAR_SLOPE) * t * (1 - share)
    return gap / (distance_sq(t, FAR_SLOPE) - gap)


def first_instance(
    k: int, t: int, z: float = 2.0, room: float = 4.0, copies: int | None = None, seed: int = 0
) -> HardInstance:
    """Section 2.1, for epsilon = 1 / t: k / 2 subsets of B = room k / t^z coordinates, k / 2B copies.

    Any epsilon-coreset of it has Omega(k epsilon^(-z - 2)) points.

    Args:
      k: even, and at least t^(z + 2).
      room: 100 in the paper.
      copies: in place of k / 2B.

    Raises:
      ValueError: k is too small for t, and see `HardInstance`.
    """
    if k < t ** (z + 2) or k % 2:
        raise ValueError(f"k: must be even and at least t^(z + 2) = {t ** (z + 2):g}, got {k}")
    dim = math.ceil(room * k / t**z)
    return HardInstance(k, t, dim, k // 2, max(1, k // (2 * dim)) if copies is None else copies, z, seed)


def second_instance(
    k: int, epsilon: float, z: float = 2.0, room: float = 4.0, copies: int | None = None, seed: int = 0
) -> HardInstance:
    """Section 2.2, for epsilon from k^(-(z + 1) / (z + 2)) to k^(-1 / (z + 2)): more subsets than centers.

    t = k^(1 / (z + 2)), to the next even number below, B = room t^2, k^((z + 1) / (z + 2)) / epsilon subsets. Any
    epsilon-coreset of it has Omega(k^((2z + 3) / (z + 2)) / epsilon) points.

    Raises:
      ValueError: epsilon is out of that range, t below 6, and see `HardInstance`.
    """
    largest = k ** (-1 / (z + 2))
    if not largest ** (z + 1) * (1 - 1e-9) <= epsilon <= largest * (1 + 1e-9):
        raise ValueError(f"epsilon: must be from {largest ** (z + 1):.3g} to {largest:.3g}, got {epsilon:g}")
    t = 2 * int((1 / largest + 1e-9) / 2)
    dim, sets = math.ceil(room * t**2), math.ceil(k ** ((z + 1) / (z + 2)) / epsilon)
    made = HardInstance(k, t, dim, sets, max(1, k // (2 * dim)) if copies is None else copies, z, seed)
    made._equally_far()
    return made
