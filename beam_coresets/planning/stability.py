"""How well the data fall into k clusters: cost stability."""
from __future__ import annotations

import math

from beam_coresets.planning.target_size import Pilot
from beam_coresets.solvers.centers import solve_centers

STABILITY_A_CENTER = 80  # points of a shard

def stability(pilot: Pilot) -> float | None:
    """Estimates beta of OPT_(k-1) >= (1 + beta) OPT_k: how much worse one center fewer is (Ostrovsky, Rabani, Schulman
    and Swamy, *The Effectiveness of Lloyd-Type Methods for the k-Means Problem*, 2006).

    Both are what the solver finds on one pilot coreset, so neither is sure to be the best. None for one center;
    infinite where k centers cost nothing.
    """
    k, z, seed = pilot.sampler.k, pilot.sampler.z, pilot.assignment.seed
    if k == 1:
        return None
    coreset = pilot.decided(min(STABILITY_A_CENTER * k, pilot.usable), seed)[0].coreset
    best, less = (
        solve_centers(coreset.points, coreset.weights, count, z, seed=seed, metric=pilot.metric).cost
        for count in (k, k - 1)
    )
    if best > 0:
        return max(0.0, less / best - 1)
    return math.inf if less > 0 else 0.0
