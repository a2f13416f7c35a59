"""A search in principal components: most of what a search does with wide rows takes as long as they are wide.

k-means of points projected on their first k / epsilon principal components costs at most 1 + epsilon times the best of
all columns (Cohen, Elder, Musco, Musco and Persu, *Dimensionality reduction for k-means clustering*, 2015, Theorem 7).
`COMPONENTS` is fewer than the theorem asks for and found by iteration, so nothing rests on it: a descent in all columns
follows, and every cost that is told is measured there.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.hashing import generator
from beam_coresets.points.nearest import blas_on_one_thread
from beam_coresets.solvers.descent import CentersProblem, Clustering

Array = npt.NDArray[Any]

COMPONENTS = 96
LEAST_DIM = 192  # columns from which on a search is narrowed
_ROUNDS = 2  # of subspace iteration from random directions
_LEAST_LENGTH = 1e-6  # of a projected unit row; shorter ones have no direction


@dataclasses.dataclass(frozen=True, eq=False)
class Principal:
    """Attributes:
    problem: the narrow one; its costs are less by what the dropped columns cost any centers in the others' span.
    basis: (d, COMPONENTS) orthonormal columns, of the points' dtype.
    wide: the problem that it was made of.
    """

    problem: CentersProblem
    basis: Array
    wide: CentersProblem

    @staticmethod
    def of(wide: CentersProblem) -> Principal | None:
        """None where it would not help: narrow rows, powers other than 2 (what is dropped is no constant there), and
        weight that is left out (a far point's distance may lie in a dropped column)."""
        points = wide.points
        if points.shape[1] < LEAST_DIM or wide.z != 2 or wide.left_out:
            return None
        weights = (wide.weights / wide.weights.mean()).astype(points.dtype)[:, None]
        basis = generator("principal", points.shape[1]).standard_normal((points.shape[1], COMPONENTS))
        basis = basis.astype(points.dtype)
        with blas_on_one_thread():
            for _ in range(_ROUNDS):
                along = points @ basis
                along *= weights
                basis = np.linalg.qr(points.T @ along)[0]
            narrow = points @ basis
        if not wide.cosine:
            return Principal(dataclasses.replace(wide, points=narrow, origin=np.zeros(COMPONENTS)), basis, wide)
        # w (1 - p.c) of a row p is, but for a constant, w |p| (1 - p.c / |p|): of a unit row that weighs less.
        length = np.linalg.norm(narrow, axis=1).clip(_LEAST_LENGTH)
        narrow /= length[:, None]
        return Principal(
            dataclasses.replace(wide, points=narrow, weights=wide.weights * length, origin=np.zeros(COMPONENTS)),
            basis,
            wide,
        )

    def inward(self, centers: Array) -> Array:
        """(k, d) centers of the wide problem as centers (k, COMPONENTS) of the narrow one."""
        narrow = np.asarray(centers @ self.basis, np.float64)
        if self.wide.cosine:
            narrow /= np.linalg.norm(narrow, axis=1, keepdims=True).clip(_LEAST_LENGTH)
        return narrow

    def outward(self, state: Clustering) -> Array:
        """The means (k, d), in all columns, of the clusters that were found."""
        centers = np.asarray(state.centers @ self.basis.T, np.float64)  # of clusters that have no rows
        return self.wide.step(dataclasses.replace(state, centers=centers))
