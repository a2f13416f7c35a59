"""Two windows of stored summaries side by side: the change from one to the other, and the rows behind it."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.comparing.drift import Drift, Reference, drift
from beam_coresets.comparing.one_source import Cells
from beam_coresets.comparing.seen import Seen
from beam_coresets.solvers.model import Model
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference, model_of, require_alike

MOST_NAMED = 5  # that are named

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class ClusterChange:
    """A cluster of the reference, then and now.

    Attributes:
      index, center_id, representative_id: of its center in the reference.
      before, now: its share of the rows, from 0 to 1. low, high: 95 % interval of now - before.
      rows: ids of rows of the window in it that are the farthest from its center.
    """

    index: int
    center_id: str | None
    representative_id: str | None
    before: float
    now: float
    low: float
    high: float
    rows: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CenterShift:
    """A center of the window, and how far its rows are from the reference's rows near it, in spreads; None for none."""

    index: int
    center_id: str | None
    representative_id: str | None
    shift: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What has changed from one window, the reference, to another.

    Attributes:
      drift: the figures, with their error bars.
      clusters: of the reference, those that changed the most first. centers: of the window, the farthest first.
      rows: ids of the window's rows that cost the most more under the reference's centers, the worst first.
    """

    drift: Drift
    clusters: tuple[ClusterChange, ...]
    centers: tuple[CenterShift, ...]
    rows: tuple[str, ...]


def compare(this: WindowSummary, other: WindowSummary) -> Comparison | None:
    """The change from `other` to `this`, in the scale of `this`; None where nothing can be compared, as of windows
    without rows.

    Raises:
      ValueError: other columns, metric, z or r, or summaries that are not of coresets; a damaged file.
    """
    if this.row.get("summary") not in (None, "coreset"):
        raise ValueError(f"summary: must be coreset to be compared, got {this.row['summary']!r}")
    row = this.row
    require_alike(other, this.columns, {name: row[name] for name in ("metric", "z", "r")})
    decision, fixed = this.decision, FixedReference.of_window(other, this.columns)
    seen, model = Seen.of(decision), model_of(this, this.columns, this.scale)
    if seen is None or fixed is None or not len(this.centers):
        return None
    reference = fixed.scaled(this.scale)
    threshold = row["threshold"] if row.get("outliers") else None
    most = float("inf") if threshold is None else threshold
    found = drift(seen, model, reference, row["z"], row["metric"], most, row["seed"])
    if found is None:
        return None
    ids = [str(each) for each in decision.evidence.sample.extras.column("id").to_pylist()]
    return Comparison(
        found, _clusters(seen, reference.seen, reference, other, ids), _centers(this, found),
        _rows(seen, model, reference, ids, row),
    )  # fmt: skip


def _clusters(
    this: Seen, before: Seen, reference: Reference, other: WindowSummary, ids: list[str]
) -> tuple[ClusterChange, ...]:
    cells = len(reference.centers)
    index = reference.clusters(this.points)
    a, b = this.common(before), before.common(this)
    assert a is not None
    assert b is not None
    now, then = (Cells(each, reference.clusters(each.points), cells) for each in (a, b))
    half = 1.96 * np.sqrt(now.variance + then.variance)
    away = np.linalg.norm(this.points - reference.centers[index], axis=1)
    rows = other.centers_table().to_pylist()
    out = []
    for j in np.argsort(-np.abs(now.size - then.size), kind="stable").tolist():
        apart = float(now.size[j] - then.size[j])
        own = np.flatnonzero(index == j)
        far = own[np.argsort(-away[own], kind="stable")].tolist()
        named = tuple(dict.fromkeys(ids[i] for i in far))[:MOST_NAMED]
        out.append(ClusterChange(
            j, rows[j]["center_id"], rows[j]["representative_id"], float(then.size[j]), float(now.size[j]),
            apart - float(half[j]), apart + float(half[j]), named,
        ))  # fmt: skip
    return tuple(out)


def _centers(this: WindowSummary, found: Drift) -> tuple[CenterShift, ...]:
    rows = this.centers_table().to_pylist()
    order = np.argsort(-np.nan_to_num(found.shifts, nan=np.inf), kind="stable").tolist()
    return tuple(
        CenterShift(
            i, rows[i]["center_id"], rows[i]["representative_id"],
            None if np.isnan(found.shifts[i]) else float(found.shifts[i]),
        )
        for i in order
    )  # fmt: skip


def _rows(this: Seen, model: Model, reference: Reference, ids: list[str], row: dict[str, Any]) -> tuple[str, ...]:
    own = Reference(this, np.asarray(model.centers), model.bases)
    more = reference.costs(this.points, row["z"], row["metric"]) - own.costs(this.points, row["z"], row["metric"])
    order = np.argsort(-more, kind="stable")
    worse = order[more[order] > 0].tolist()
    return tuple(dict.fromkeys(ids[i] for i in worse))[:MOST_NAMED]
