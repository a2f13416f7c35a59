"""How clusters keep to their bounds: what each is held to, what it has, and how much room there is."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_coresets.solvers.constrained.bounds import BOUND_SLACK, Bounds

Array = npt.NDArray[Any]

AT_LEAST, AT_MOST, EXACTLY = "at least", "at most", "exactly"
VIOLATED, BINDING, FREE, EMPTY = "violated", "binding", "free", "empty"  # the tightest first
STATES = (VIOLATED, BINDING, FREE, EMPTY)


class KeptBound(NamedTuple):
    """How one cluster keeps to one bound.

    Attributes:
      cluster: which one. name: of the constraint, such as "balanced" or "fair red".
      side: "at least", "at most" or "exactly".
      share: whether numbers are shares of the cluster's weight; they are weights otherwise.
      bound, held: what the cluster is held to and what it has; NaN for a share of a cluster without weight.
      room: how far `held` may go before it meets the bound; negative by how much it is beyond it.
      state: "violated"; "binding" where it is met with equality, up to rounding; "free"; "empty" where a cluster
        without weight meets it.
    """

    cluster: int
    name: str
    side: str
    share: bool
    bound: float
    held: float
    room: float
    state: str


def kept_bounds(bounds: Bounds, table: Array) -> list[KeptBound]:
    """Every bound and what the clusters make of it, the tightest first: by state, then by room over what there is.

    Args:
      bounds: for k clusters of m labels. table: (m, k) float64, the weight of each label in each cluster.
    """
    table = np.asarray(table, np.float64)
    active, sizes = (bounds.matrix @ table.ravel()).tolist(), table.sum(axis=0).tolist()
    slack = BOUND_SLACK * float(table.sum())
    rows = zip(bounds.names, bounds.cluster.tolist(), bounds.share.tolist(), bounds.low.tolist(), bounds.high.tolist(),
               active, strict=True)  # fmt: skip
    found = []
    for name, cluster, share, low, high, value in rows:
        of_share = not math.isnan(share)
        size = sizes[cluster] if of_share else 1.0  # what is bound of a share is the weight beyond it
        for side, room in _rooms(low, high, value, of_share):
            bound = share if of_share else low if side != AT_MOST else high
            state = VIOLATED if room < -slack else BINDING if room <= slack else FREE
            held, over = (value / size + bound, room / size) if of_share and size > 0 else (value, room)
            if size <= 0:
                held, over, state = math.nan, math.nan, EMPTY
            plain = name.removesuffix(f" {side} {share:.6g}")
            found.append(KeptBound(cluster, plain, side, of_share, bound, held, over, state))
    return sorted(found, key=_tightness)


def _rooms(low: float, high: float, active: float, share: bool) -> list[tuple[str, float]]:
    """Side and room, as weight, of what is bound in a row."""
    if low == high and (share or low > 0):
        return [(EXACTLY, -abs(active - low))]
    sides = [(AT_LEAST, active - low)] if low > 0 or (share and low == 0) else []
    return [*sides, *([(AT_MOST, high - active)] if high < math.inf else [])]


def _tightness(kept: KeptBound) -> tuple[int, float, int]:
    over = kept.room / max(kept.bound, kept.held, np.finfo(float).tiny)
    return STATES.index(kept.state), 0.0 if math.isnan(over) else over, kept.cluster
