"""What the tables keep of a decision: the column `evidence` of `summaries`, and the way back."""
from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import bounded, codec, table_schemas
from beam_coresets.coordinator.decision import Decision, Evidence, decision_from, fields_of, recovery_from
from beam_coresets.coordinator.merge import normalization
from beam_coresets.coordinator.recovery import Recovery, packed, unpacked
from beam_coresets.coordinator.sampled_rows import SampledRows, sampled_rows
from beam_coresets.hashing import hash_bytes
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.scale import Scale
from beam_coresets.shards.refused import RefusedRows

Array = npt.NDArray[Any]


def pack_evidence(decision: Decision, rows: SampledRows | None = None) -> bytes:
    """What the coreset table does not say of a decision: the column `evidence` of `summaries`.

    Args:
      rows: the table's rows, if they are known already.
    """
    recovery, sample = decision.recovery, decision.evidence.sample
    # The table's weights of labelled points are taken as they are: to make them right again changes nothing.
    factor = _normalization(decision) if decision.label_totals is None else 1.0
    fields, policy = fields_of(decision), decision.policy
    fields["policy"] = [policy.recovery, policy.min_shards, policy.parts]
    if policy.known:
        fields["policy"] += [False, False, True]
    fields["sample"] = [len(decision.coreset), sample.dim, sample.points.dtype.str, factor]
    exact = recovery.kind == "exact"
    unit = np.array_equal(recovery.counts, recovery.weights)
    arrays: dict[str, Array | None] = {
        "trusted": packed(recovery.trusted),
        "complete": np.packbits(recovery.complete),
        "counts": recovery.counts,
        "weights": None if unit else recovery.weights,
        "multipliers": None if exact else recovery.multipliers[recovery.trusted],
        "origin": None if recovery.origin is None else recovery.origin.astype(np.int32),
        **_weights_apart(decision, table_rows(decision) if rows is None else rows),
    }
    return zlib.compress(codec.pack("Evidence", fields, arrays), 6)


def table_rows(decision: Decision) -> SampledRows:
    """The rows of the coreset table, of the points that the recovery gives a weight."""
    evidence = decision.evidence
    if decision.local is not None:  # these are at distinct places
        own = np.arange(len(decision.coreset))
        return SampledRows(own, own)
    weighs = decision.recovery.multiplier(evidence.shard, evidence.bucket) > 0
    return sampled_rows(decision.coreset, evidence.bucket[weighs])


def _weights_apart(decision: Decision, rows: SampledRows) -> dict[str, Array]:
    """Of rows that several shards have sampled the points' own weights, and where the points were; none without such.

    The points are in the order of the table, and those of one row in the order of its `shards`.
    """
    coreset, gathered = decision.coreset, rows.gathered()
    several = np.repeat(rows.counts > 1, rows.counts)
    if not several.any():
        return {}
    own = gathered[several]
    return {
        "point_weights": coreset.weights[own],
        "point_weights_ht": coreset.weights_ht[own],
        "point_places": gathered.astype(np.int32),
    }


def _normalization(decision: Decision) -> float:
    """That of the points which are not known for certain."""
    factors, sample = np.atleast_1d(normalization(decision)), decision.evidence.sample
    drawn = factors[sample.weights != sample.weights_ht] if len(factors) == len(sample) > 1 else factors
    return float(drawn[0]) if len(drawn) else 1.0


def unpack_evidence(row: Mapping[str, Any], coreset: pa.Table, scale: Scale | None = None) -> Decision:
    """The decision behind a row of `summaries`.

    Points that the recovery gave no weight are not in the tables (only `lp` does that), and ids are new hashes of the
    printed ones.

    Args:
      row: with the column `evidence`.
      coreset: the rows of the same window, key and revision in `coreset`.
      scale: what the columns had been scaled by, as tables are in the user's units.

    Raises:
      ValueError: there is no evidence, it is not of a form that this version reads, or the coreset has not as many rows
        as it speaks of.
    """
    if row.get("summary") not in (None, "coreset"):
        raise ValueError(f"summary: must be coreset to go on from the tables, got {row['summary']!r}")
    if row.get("evidence") is None:
        raise ValueError(
            f"evidence: must be in the summaries table to merge windows, got none (written by version "
            f"{row.get('version') or 'unknown'})"
        )
    with codec.refusing("evidence"):
        fields, arrays = codec.unpack(bounded.expand(row["evidence"], "zlib"), "Evidence")
        recovery = _unpacked_recovery(fields, arrays)
        rows, dim, dtype, normalization = _sample(fields)
    counts = coreset.column("shards").combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    if counts.sum() != rows or (len(counts) and counts.min() < 1):
        raise ValueError(f"coreset: must have the {rows} points of this window, got {counts.sum()}")
    with codec.refusing("evidence and coreset"):
        points = _points_of(coreset, counts.astype(np.int64), arrays)
        decision = _decision(fields, recovery, points, dim, np.dtype(dtype), normalization, scale)
    return dataclasses.replace(decision, refused=RefusedRows.of_number(row.get("refused")))


class _Points(NamedTuple):
    """The m points behind r rows of the coreset table, in the order that they had."""

    table: pa.Table  # m rows: those of a row that several shards have sampled are there as often
    shard: Array
    weights: Array
    weights_ht: Array


def _points_of(coreset: pa.Table, counts: Array, arrays: Mapping[str, Array | None]) -> _Points:
    row = np.repeat(np.arange(len(coreset)), counts)
    shard = coreset.column("shards").combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    weights, unbiased = (np.array(coreset.column(name).to_numpy())[row] for name in ("weight", "weight_ht"))
    order = np.arange(len(row))
    places = arrays.get("point_places")
    if places is not None:
        if not np.array_equal(np.sort(places), order):
            raise ValueError(f"point_places: must be those of {len(row)} points, got others")
        several = counts[row] > 1
        weights[several], unbiased[several] = arrays["point_weights"], arrays["point_weights_ht"]
        order = np.argsort(places)
    return _Points(coreset.take(pa.array(row[order])), shard[order], weights[order], unbiased[order])


def _sample(fields: Mapping[str, Any]) -> tuple[int, int, str, float]:
    """Rows, coordinates, type and normalization of the points."""
    rows, dim, dtype, normalization = fields["sample"]
    if dtype not in ("<f4", "<f8"):
        raise ValueError(f"sample: must be of float32 or float64, got {str(dtype)[:50]}")
    return int(rows), int(dim), str(dtype), float(normalization)


def _decision(
    fields: dict[str, Any], recovery: Recovery, points: _Points, dim: int, dtype: np.dtype[Any],
    normalization: float, scale: Scale | None,
) -> Decision:  # fmt: skip
    coreset, shard, weights, unbiased = points
    bucket = coreset.column("bucket").to_numpy().astype(np.int64)
    for name, found, there in zip(("shard", "bucket"), (shard, bucket), recovery.trusted.shape, strict=True):
        if len(found) and not 0 <= found.min() <= found.max() < there:
            raise ValueError(f"{name}: must be from 0 to {there - 1}, got {found.min()} to {found.max()}")
    factors = recovery.multiplier(shard, bucket) * recovery.scale
    extras = _extras(coreset)
    sure = (weights == unbiased) & (len(fields["policy"]) > 3)
    sample = Coreset(
        _points(coreset, dim, dtype, scale),
        weights / np.where(sure, factors, factors * normalization),
        unbiased / factors,
        hashed_ids(extras.column("id")),
        _label_codes(extras) if "labels" in fields else None,
        extras,
    )
    if sample.groups is None:
        fields.pop("labels", None)
    return decision_from(fields, recovery, Evidence(sample, shard, bucket))


def _unpacked_recovery(fields: Mapping[str, Any], arrays: Mapping[str, Array | None]) -> Recovery:
    s, V = fields["shape"]
    counts, origin = np.asarray(arrays["counts"]), arrays["origin"]
    trusted = unpacked(np.asarray(arrays["trusted"]), (int(s), int(V)))
    if counts.shape != (V,) or not (fields["assignment"]["buckets"] == V if origin is None else origin.shape == (V,)):
        raise ValueError(f"counts: must be of {V} buckets, got {counts.shape}")
    unequal = None
    if arrays["multipliers"] is not None:
        unequal = np.zeros((s, V))
        unequal[trusted] = arrays["multipliers"]
    return recovery_from(
        fields,
        trusted=trusted,
        covered=np.asarray(trusted.any(axis=0)),
        complete=np.unpackbits(np.asarray(arrays["complete"]), count=V).astype(np.bool_),
        counts=counts,
        weights=counts.astype(np.float64) if arrays["weights"] is None else arrays["weights"],
        origin=None if origin is None else origin.astype(np.int64),
        unequal=unequal,
    )


def _points(coreset: pa.Table, dim: int, dtype: np.dtype[Any], scale: Scale | None) -> Array:
    """(m, d), of the type they had, unless that would change them: units may take more digits than what was scaled."""
    flat = coreset.column("coordinates").combine_chunks().flatten()
    points = np.asarray(flat, np.float64).reshape(len(coreset), dim)
    if scale is not None:
        return scale.apply(points).astype(dtype)
    narrow = points.astype(dtype)
    return narrow if np.array_equal(narrow, points) else points


def _extras(coreset: pa.Table) -> pa.Table:
    """The printed ids, labels if there are any, and kept columns."""
    own = [name for name in coreset.column_names if name not in table_schemas.CORESET.names]
    label = ["group_label"] if coreset.column("group_label").null_count < len(coreset) else []
    found = coreset.select(["id", *label, *own]).combine_chunks()
    return found.rename_columns(["group" if name == "group_label" else name for name in found.column_names])


def _label_codes(extras: pa.Table) -> npt.NDArray[np.int32] | None:
    """The labels' codes as sources make them, (m,); None if any point has no label."""
    if "group" not in extras.column_names or extras.column("group").null_count:
        return None
    return (hashed_ids(extras.column("group")) >> np.uint64(33)).astype(np.int32)


def hashed_ids(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """(m,) uint64."""
    texts = (ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids).cast(pa.large_string())
    if not len(texts):
        return np.empty(0, np.uint64)
    _, ends, content = texts.buffers()
    offsets = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return hash_bytes(offsets, np.frombuffer(content or b"\0", np.uint8))
