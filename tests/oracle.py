"""What is best for tiny data, by looking at everything: all assignments, all ordered tuples of centers."""
import functools
import itertools

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from beam_coresets.solvers.constrained.solver import cost_matrix


def assignments(n, k):
    """(k**n, n): every way to put n whole points into k clusters."""
    return np.stack(np.meshgrid(*[np.arange(k)] * n, indexing="ij"), axis=-1).reshape(-1, n)


def feasible(bounds, label, weights, choices, slack=1e-9):
    """Which assignments keep to the bounds."""
    one_hot = choices[:, :, None] == np.arange(bounds.k)
    members = (np.arange(len(bounds.labels))[:, None] == label) * weights
    tables = np.einsum("jp,api->aji", members, one_hot.astype(float))
    held = tables.reshape(len(choices), -1) @ bounds.matrix.T.toarray()
    return ((held >= bounds.low - slack) & (held <= bounds.high + slack)).all(axis=1)


def best_assignment(cost, weights, label, bounds):
    """The least cost of whole points in clusters; infinite where there is no way."""
    choices = assignments(len(cost), bounds.k)
    choices = choices[feasible(bounds, label, weights, choices)]
    each = cost[np.arange(len(cost)), choices] @ weights
    return float(each.min(initial=np.inf))


def program(cost, weights, label, bounds):
    """The least cost of points that may be split, by one plain linear program; None where there is no way."""
    n, k = cost.shape
    m = len(bounds.labels)
    points = sparse.kron(sparse.identity(n), np.ones((1, k)))
    cells = sparse.csr_matrix(
        (np.ones(n * k), ((label[:, None] * k + np.arange(k)).ravel(), np.arange(n * k))), (m * k, n * k)
    )
    rows = (bounds.matrix @ cells).toarray()
    upper, lower = np.isfinite(bounds.high), np.isfinite(bounds.low)
    found = linprog(
        cost.ravel(), A_eq=points.toarray(), b_eq=weights, A_ub=np.concatenate([rows[upper], -rows[lower]]),
        b_ub=np.concatenate([bounds.high[upper], -bounds.low[lower]]), method="highs",
    )  # fmt: skip
    return None if found.status == 2 else float(found.fun)


def best_tuple(points, weights, label, bounds, places, z, cost_of=program, metric="euclidean"):
    """The least cost over all ordered k-tuples of places, repeats allowed."""
    matrix = cost_matrix(points, places, z, metric)
    tuples = itertools.product(range(len(places)), repeat=bounds.k)
    found = (cost_of(matrix[:, list(chosen)], weights, label, bounds) for chosen in tuples)
    return min((cost for cost in found if cost is not None), default=np.inf)


def optimum(points, label, bounds, z):
    """The least cost of whole points of weight 1 with centers anywhere: over all assignments, each cluster with its own
    best center. z is 1 or 2."""
    n = len(points)

    @functools.cache
    def own(members):
        mine = points[list(members)]
        center = mine.mean(axis=0) if len(mine) else np.zeros(points.shape[1])
        for _ in range(0 if z == 2 or len(mine) < 3 else 100):  # Weiszfeld, which only creeps up on a point
            near = 1 / np.maximum(np.linalg.norm(mine - center, axis=1), 1e-9)
            center = near @ mine / near.sum()
        return min((cost_matrix(mine, place[None], z).sum() for place in [center, *mine]), default=0.0)

    choices = assignments(n, bounds.k)
    choices = choices[feasible(bounds, label, np.ones(n), choices)]
    sets = (tuple(tuple(np.flatnonzero(row == i).tolist()) for i in range(bounds.k)) for row in choices)
    return min((sum(own(members) for members in clusters) for clusters in set(sets)), default=np.inf)
