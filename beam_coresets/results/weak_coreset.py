"""The universal weak coreset (J, S, v): candidates for centers beside a sample, for constraints named later.

Jaiswal and Kumar, *Universal Weak Coreset*, Definition 1: for an assignment sigma of the points to k clusters, (A) some
k candidates of J cost at most alpha + epsilon times the best centers for sigma; (B) for every k candidates C and all
cluster sizes Gamma, the cheapest assignment of S to C that keeps to Gamma costs within 1 +- epsilon what the data's
does. Whoever has (J, S, v) can solve for balanced, fair, diverse or any other such clusters without the data.

S, v: the decided coreset. Its total, and with labels each label's, is exact (`beam_coresets.sampling.by_label`), as
(B) can't hold
otherwise: Gamma adds up to it. J: drawn by D^z sampling, several points a round (Section 3), from the samples of shards
that S does without, where some can be spared: what shards dz_draw is independent given the data, and the union bound
over J^k behind (B) (Theorem 4) asks for a J that S knows nothing of. Of hashed buckets one shard is spared; it sees
its own buckets only, a random sample of the rows, and S loses one of their replicas. Half of the candidates are input
rows, the other half means of a few neighbours of one (the Euclidean case of Section 3): in many dimensions points are
far from each other, and so from any center.

Proved: totals and labels' totals are exact; J and S are independent where shards can be spared. Where none can (one
holder a bucket, too many stragglers) J is drawn from S itself, `independent` is false, and what is left of the theory
is (A) for each Gamma instead of for every sigma. The paper proves (A) with alpha = 2**z for poly(k / epsilon) input
rows, with alpha = 1 for (k / epsilon)^O(1 / epsilon) means, and (B) for uniform samples of rings; S here is drawn by
importance, evenly spread and calibrated. So epsilon and alpha at the sizes used here are measured
(`benchmarks/weak.py`, and alpha in every summary), as is all of it once windows are merged: the paper leaves a single
pass over a stream open.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets.coordinator.decision import Decision, Evidence
from beam_coresets.coordinator.evidence import hashed_ids
from beam_coresets.coordinator.recovery import Recovery
from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.nearest import Metric, nearest, power_of_distance
from beam_coresets.points.scale import Scale
from beam_coresets.points.seeding import dz_draw
from beam_coresets.solvers.model import point_costs

NEIGHBOURS = (2, 4, 8, 16, 32)  # that means are taken of, in turn
NEAR_CANDIDATES = 64  # candidates that are tried for a center
_SEARCH = 20  # iterations of the search among candidates
_CHUNK = 512  # rows whose neighbours are looked for at a time

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """J: places that centers may be chosen from.

    Attributes:
      drawn: the first of them, input rows; weights mean nothing.
      means: (m, d) float64, the others, which are no input rows.
      shard: (c,) int64, whose sample each comes from.
      independent: no point of S comes from these shards' samples.
    """

    drawn: Coreset
    means: Array
    shard: npt.NDArray[np.int64]
    independent: bool

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def points(self) -> Array:
        """(c, d) float64."""
        if not len(self.drawn):
            return self.means
        return np.concatenate([self.drawn.points.astype(np.float64), self.means])

    def take(self, rows: Array) -> Candidates:
        """Those of the given numbers, input rows first."""
        order = rows[np.argsort(rows >= len(self.drawn), kind="stable")]
        own, made = order[order < len(self.drawn)], order[order >= len(self.drawn)] - len(self.drawn)
        return Candidates(
            self.drawn.keep(own, self.drawn.weights_ht[own]), self.means[made], self.shard[order], self.independent
        )


def spared(decision: Decision) -> tuple[int, ...]:
    """Shards in good order all of whose buckets others hold, too, for J to be drawn from; none where there are none.

    Hashed buckets are random samples, so one shard is enough: the one whose buckets have the most holders, of equals
    the first. Parts are not: then as many as it takes to see them all, chosen greedily by how much weight they add, or
    in turn where that leads nowhere.
    """
    recovery = decision.recovery
    able = [i for i in recovery.responded if i not in recovery.distrusted]
    if decision.policy.assignment.parts:
        return _spared_for_parts(recovery, able, True) or _spared_for_parts(recovery, able, False)
    holders = recovery.trusted.sum(axis=0)
    best: tuple[int, ...] = ()
    least = np.inf
    for shard in able:
        mine = recovery.trusted[shard]
        weight = recovery.weights[mine].sum()
        if not weight > 0 or (holders[mine] < 2).any():
            continue
        lost = float(recovery.weights[mine] @ (1 / (holders[mine] * (holders[mine] - 1.0))) / weight)
        if lost < least - 1e-9:
            best, least = (shard,), lost
    return best


def _spared_for_parts(recovery: Recovery, able: Sequence[int], by_gain: bool) -> tuple[int, ...]:
    chosen: list[int] = []
    left, unseen = recovery.trusted.copy(), recovery.counts > 0
    while unseen.any():
        holders = left.sum(axis=0)
        gain = {
            i: float(recovery.weights[left[i] & unseen].sum())
            for i in able
            if (left[i] & unseen).any() and (holders[left[i]] >= 2).all()
        }
        if not gain:
            return ()
        chosen.append(max(gain, key=lambda i: gain[i]) if by_gain else min(gain))
        unseen &= ~left[chosen[-1]]
        left[chosen[-1]] = False
    return tuple(sorted(chosen))


def without(decision: Decision, shards: Sequence[int]) -> Decision:
    """The same decision, recovered from the other shards' points; totals and coverage stay.

    Raises:
      ValueError: nobody else holds some bucket of the shards, or multipliers are not the exact ones.
    """
    recovery, evidence = decision.recovery, decision.evidence
    if recovery.kind != "exact":
        raise ValueError(f"recovery: must be exact to do without a shard, got {recovery.kind!r}")
    trusted = recovery.trusted.copy()
    trusted[list(shards)] = False
    holders = trusted.sum(axis=0)
    if (recovery.covered & (holders == 0)).any():
        raise ValueError(f"shards: must be such that others hold all of their buckets, got {tuple(shards)}")
    rows = np.flatnonzero(~np.isin(evidence.shard, shards))
    sample = evidence.sample.keep(rows, evidence.sample.weights_ht[rows], evidence.sample.weights[rows])
    return Decision.of(
        decision.policy,
        dataclasses.replace(recovery, trusted=trusted),
        Evidence(sample, evidence.shard[rows], evidence.bucket[rows]),
        decision.total_weight,
        decision.points,
        decision.degraded,
        label_totals=decision.label_totals,
        refused=decision.refused,
    )


def divided(
    decision: Decision, count: int, z: float = 2.0, seed: int = 0, metric: Metric = "euclidean"
) -> tuple[Decision, Candidates]:
    """S and J: the decision without the shards that can be spared, and `candidates` from these; where none can, the
    decision as it is, and candidates from its own coreset."""
    shards = spared(decision)
    rest = without(decision, shards) if shards else decision
    return rest, candidates(decision, count, z, seed, metric, shards)


def candidates(
    decision: Decision,
    count: int,
    z: float = 2.0,
    seed: int = 0,
    metric: Metric = "euclidean",
    shards: Sequence[int] = (),
) -> Candidates:
    """J: half of it rows by D^z sampling, half means of 2 to 32 neighbours of such rows.

    Args:
      count: how many; fewer where there are fewer distinct points.
      z: power of the distance.
      metric: "cosine" brings means to unit length.
      shards: draws from these shards' points; by default from the whole coreset.
    """
    source, origin = _source(decision, shards)
    if not len(source):
        return Candidates(source, np.empty((0, source.dim)), np.empty(0, np.int64), bool(shards))
    rows = dz_draw(source.points, source.weights, -(-count // 2), z, generator(seed, "candidates", tuple(shards)))
    means, around = _means(source, rows, count - len(rows), metric)
    order = np.concatenate([origin[rows], origin[around]])
    return Candidates(source.keep(rows, source.weights_ht[rows]), means, order, bool(shards))


def _source(decision: Decision, shards: Sequence[int]) -> tuple[Coreset, npt.NDArray[np.int64]]:
    """What J is drawn from, and the shard of each of its points."""
    evidence, recovery = decision.evidence, decision.recovery
    if not shards:
        kept = recovery.multiplier(evidence.shard, evidence.bucket) > 0
        return decision.coreset, evidence.shard[kept]
    rows = np.flatnonzero(np.isin(evidence.shard, shards))
    factor = 1 / recovery.trusted[list(shards)].sum(axis=0)[evidence.bucket[rows]]
    weights, weights_ht = evidence.sample.weights[rows] * factor, evidence.sample.weights_ht[rows] * factor
    return evidence.sample.keep(rows, weights_ht, weights), evidence.shard[rows]


def _means(source: Coreset, rows: Array, count: int, metric: Metric) -> tuple[Array, Array]:
    """`count` weighted means of some nearest neighbours of `rows`, in turn, (count, d) float64, and around which rows
    they are; fewer where that would repeat them."""
    sizes = [size for size in NEIGHBOURS if size < len(source)]
    count = min(count, len(rows) * len(sizes))
    i = np.arange(count)
    around = rows[i % max(1, len(rows))]
    size = np.array(sizes, np.int64)[(i + i // max(1, len(rows))) % max(1, len(sizes))]
    points, weights = source.points.astype(np.float64), source.weights
    moved = points - points.mean(axis=0)
    length = np.einsum("nd,nd->n", moved, moved)
    out = np.empty((count, source.dim))
    for low in range(0, count, _CHUNK):
        chunk = slice(low, min(low + _CHUNK, count))
        # Who is near need not be exact; what is averaged is.
        order = np.argsort(length - 2 * (moved[around[chunk]] @ moved.T), axis=1, kind="stable")
        for j, (near, most) in enumerate(zip(order, size[chunk], strict=True), low):
            w = weights[near[:most]]
            out[j] = w @ points[near[:most]] / w.sum() if w.sum() > 0 else points[around[j]]
    if metric == "cosine":
        norm = np.linalg.norm(out, axis=1, keepdims=True)
        out = np.where(norm > 0, out / np.where(norm > 0, norm, 1.0), points[around])
    return out, around


def merge_candidates(parts: Sequence[Candidates], sample: Coreset, count: int, z: float, seed: int = 0) -> Candidates:
    """The candidates of several windows as one J for their merged coreset: all if they are no more than `count`, else
    D^z sampling among them, each weighing what the sample's points do that it is nearest to, and an equal share."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return Candidates(Coreset.empty(sample.dim), np.empty((0, sample.dim)), np.empty(0, np.int64), True)
    own = [part.shard[: len(part.drawn)] for part in parts] + [part.shard[len(part.drawn) :] for part in parts]
    whole = Candidates(
        Coreset.union([part.drawn for part in parts]),
        np.concatenate([part.means for part in parts]),
        np.concatenate(own),
        all(part.independent for part in parts),
    )
    if len(whole) <= count:
        return whole
    points = whole.points
    index, _ = nearest(sample.points, points)
    weights = np.bincount(index, sample.weights, len(whole))
    weights += weights.sum() / len(whole)
    rows = dz_draw(points, weights, count, z, generator(seed, "merged candidates"))
    return whole.take(rows)


def best(
    sample: Coreset, places: Array, centers: Array, z: float = 2.0, metric: Metric = "euclidean"
) -> tuple[npt.NDArray[np.int64], float]:
    """The best k of the candidates that a search finds, starting from the best centers anywhere.

    In turn, points go to their nearest center, and each center to the candidate that its points cost least at, of the
    `NEAR_CANDIDATES` nearest ones.

    Args:
      places: (c, d) the candidates. centers: (k, d).

    Returns:
      (k,) rows of `places`, some of them equal perhaps, and their cost on the sample.
    """
    at = np.asarray(centers, np.float64)
    rows, least = np.zeros(len(at), np.int64), np.inf
    for _ in range(_SEARCH):
        index, _ = point_costs(sample.points, at, z, metric)
        found = np.array([
            _cheapest(sample.points[index == i], sample.weights[index == i], places, at[i], z, metric)
            for i in range(len(at))
        ])  # fmt: skip
        _, cost = point_costs(sample.points, places[found], z, metric)
        total = float(sample.weights @ cost)
        if not total < least * (1 - 1e-9):
            break
        rows, least, at = found, total, places[found]
    return rows, least


def _cheapest(points: Array, weights: Array, places: Array, center: Array, z: float, metric: Metric) -> int:
    """The candidate near `center` that the points cost least at."""
    dist_sq = ((places - center) ** 2).sum(axis=1)
    near = np.argsort(dist_sq, kind="stable")[:NEAR_CANDIDATES]
    if not len(points):
        return int(near[0])
    from scipy.spatial.distance import cdist  # late: 0.1 s to import

    each = cdist(points, places[near], "sqeuclidean") * (0.5 if metric == "cosine" else 1.0)
    return int(near[(weights @ power_of_distance(each, z)).argmin()])


def alpha(
    sample: Coreset, places: Array, centers: Array, z: float = 2.0, metric: Metric = "euclidean"
) -> float | None:
    """What choosing centers among the candidates costs: the cost of `best` over that of `centers`, both on the sample;
    None where nothing costs anything."""
    if not len(places) or not len(centers):
        return None
    free = float(sample.weights @ point_costs(sample.points, centers, z, metric)[1])
    return best(sample, places, centers, z, metric)[1] / free if free > 0 else None


def unpack_candidates(table: pa.Table, scale: Scale | None = None) -> Candidates:
    """What the rows of one window, key and revision in `candidates` say; ids are new hashes of the printed ones."""
    rows = len(table) - table.column("id").null_count  # they come first
    flat = np.asarray(table.column("coordinates").combine_chunks().flatten(), np.float64)
    points = flat.reshape(len(table), -1) if len(table) else np.empty((0, 0))
    points = points if scale is None else scale.apply(points)
    named = table.select(["id"]).slice(0, rows).combine_chunks()
    drawn = Coreset(points[:rows], np.zeros(rows), np.zeros(rows), hashed_ids(named.column("id")), extras=named)
    independent = bool(table.column("independent").to_numpy().all())
    return Candidates(drawn, points[rows:], table.column("shard").to_numpy().astype(np.int64), independent)
