"""The newest window of each key as a page shows it: its points on axes, its centers, its columns' quantiles."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets import table_schemas
from beam_coresets.pipelines.views import words
from beam_coresets.pipelines.views.history import History
from beam_coresets.pipelines.views.written import Columns, cut, decimals, digits, rounded
from beam_coresets.points.column_order import listed
from beam_coresets.points.nearest import nearest
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.constrained.kept import KeptBound, kept_bounds
from beam_coresets.summaries.claim_records import DamagedFileError
from beam_coresets.summaries.columns import coordinate_names
from beam_coresets.summaries.window import WindowSummary, coordinates_of

Array = npt.NDArray[Any]

MOST_POINTS, LEAST_POINTS = 3_000, 60  # of a window's coreset
ALL_POINTS = 24_000  # of all keys together
MOST_AXES = 12  # columns that points can be drawn by, besides principal axes
MOST_CENTERS = 200
MOST_MARGINALS = 60  # columns
MOST_BOUNDS = 200  # of a constraint, the tightest
MARGINALS = ("mean", "deviation", "p05", "p25", "p50", "p75", "p95")
LATITUDE = ("lat", "latitude")
LONGITUDE = ("lon", "lng", "long", "longitude")
PRINCIPAL = ("principal axis 1", "principal axis 2")
BULK, FAR = 0.99, 3.0  # share of the weight that is drawn at any rate; how many times as far others are that are not
MOST_MORE = 4  # digits, where centers would look alike
UNLIKE = 100.0  # times that columns' deviations differ, beyond which principal axes are of each column in its own


@dataclasses.dataclass(frozen=True)
class Asked:
    """What somebody wants to see.

    Attributes:
      x, y: names of the columns that points are drawn by at first; None for longitude and latitude, the only two
        columns, or principal axes.
      key: that is shown at first; None for the heaviest.
    """

    x: str | None = None
    y: str | None = None
    key: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Axes:
    """What points can be drawn by.

    Attributes:
      names: of the axes. points: (m, a) where the m sampled points are on them. centers: (k, a), the same of centers.
      explained: the share of the variance that each principal axis has; empty where there are none.
    """

    names: list[str]
    points: Array
    centers: Array
    explained: list[float]

    @staticmethod
    def of(points: Array, weights: Array, centers: Array, names: Sequence[str]) -> Axes:
        """The columns (of many, those that vary most), then principal axes where there are more than two columns.

        Args:
          points: (m, d). weights: (m,). centers: (k, d). names: of the d columns.
        """
        chosen = list(range(len(names)))
        if len(names) > MOST_AXES:
            spread = points.var(axis=0) if len(points) else np.zeros(len(names))
            chosen = sorted(np.argsort(-spread, kind="stable")[:MOST_AXES].tolist())
        labels = [names[j] for j in chosen]
        total = float(weights.sum())
        if len(names) < 3 or not total > 0:
            return Axes(labels, points[:, chosen], centers[:, chosen], [])
        mean = weights @ points / total
        deviation = np.sqrt(weights @ (points - mean) ** 2 / total)
        known = deviation[deviation > 0]
        unit = np.ones(len(names))
        if len(known) and known.max() > UNLIKE * known.min():
            unit = np.where(deviation > 0, deviation, 1.0)
        scaled = (points - mean) / unit
        values, vectors = np.linalg.eigh((scaled * weights[:, None]).T @ scaled / total)
        two = vectors[:, ::-1][:, :2]
        two = two * np.where(two[np.abs(two).argmax(axis=0), range(2)] < 0, -1.0, 1.0)
        whole = max(float(values.sum()), 1e-300)
        return Axes(
            [*labels, *PRINCIPAL],
            np.hstack([points[:, chosen], scaled @ two]),
            np.hstack([centers[:, chosen], (centers - mean) / unit @ two]),
            [float(v) / whole for v in values[::-1][:2]],
        )

    def first(self, asked: Asked) -> tuple[int, int]:
        """Which two are drawn at first.

        Raises:
          ValueError: there is no axis of a name that was asked for.
        """
        lower = [name.lower() for name in self.names]
        east, north = (next((i for i, n in enumerate(lower) if n in those), None) for those in (LONGITUDE, LATITUDE))
        if east is not None and north is not None:
            x, y = east, north
        else:
            x, y = (len(lower) - 2, len(lower) - 1) if self.explained else (0, min(1, max(0, len(lower) - 1)))
        found = []
        for option, name, default in (("x", asked.x, x), ("y", asked.y, y)):
            if name is not None and name not in self.names:
                raise ValueError(f"{option}: must be one of {', '.join(self.names)}, got {name!r}")
            found.append(default if name is None else self.names.index(name))
        return found[0], found[1]


def newest_windows(history: History, keys: Sequence[str], asked: Asked) -> list[dict[str, Any]]:
    """Of each key its newest window, compared with the one before.

    Raises:
      ValueError: an axis that is none, or a key all of whose windows are damaged.
    """
    most = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // max(1, len(keys))))
    newest: dict[str, WindowSummary] = {}
    before: dict[str, WindowSummary] = {}
    for window in history.windows():
        last = newest.setdefault(window.key, window)
        if window.end is not None and last.start is not None and window.end <= last.start:
            before.setdefault(window.key, window)
        if len(before) == len(keys):
            break
    if damaged := [key for key in keys if key not in newest]:
        why = next(iter(history.skipped.values()), "")
        of = f"none of {listed(damaged)}" if any(damaged) else "none"
        raise ValueError(f"path: must hold a whole window of each key, got {of} ({why})")
    return [_shown(newest[key], before.get(key), most, asked) for key in keys]


def _shown(window: WindowSummary, before: WindowSummary | None, most: int, asked: Asked) -> dict[str, Any]:
    row, centers, table = window.row, window.centers, _coreset(window)
    names = coordinate_names(window.columns, centers.shape[1] if len(centers) else len(window.columns or ()))
    points = coordinates_of(table, len(names))
    weights = np.asarray(table.column("weight").to_numpy(zero_copy_only=False), np.float64)
    axes = Axes.of(points, weights, centers, names)
    x, y = axes.first(asked) if names else (0, 0)
    rows = np.arange(len(points)) if len(points) <= most else np.arange(most) * len(points) // most
    bulk = [_bulk(axes.points[:, a], weights) for a in range(axes.points.shape[1])]
    columns = _places(centers, points)
    places = [None if ends is None else decimals((ends[1] - ends[0]) / 10, max(map(abs, ends))) for ends in bulk]
    return {
        "start": None if window.start is None else round(window.start.timestamp() * 1e3),
        "end": None if window.end is None else round(window.end.timestamp() * 1e3),
        "axes": [cut(name) for name in axes.names],
        "x": x, "y": y, "explained": [digits(share) for share in axes.explained],
        "map": bool(names) and axes.names[x].lower() in LONGITUDE and axes.names[y].lower() in LATITUDE,
        "points": {
            "id": [cut(v) for v in table.column("id").take(pa.array(rows)).to_pylist()],
            "weight": [digits(v) for v in weights[rows].tolist()],
            "cluster": _clusters(window, points[rows], centers),
            **_on(axes.points[rows], places),
        },
        "bulk": [None if ends is None or not _is_far(axes.points[:, a], ends) else ends
                 for a, ends in enumerate(bulk)],
        "coreset_points": len(points),
        "centers": _centers(window, before, centers, columns) | _on(axes.centers[_heaviest(window)], places),
        "places": columns,
        "all_centers": len(centers),
        "names": [cut(name) for name in names],
        "marginals": _marginals(window),
        "bounds": _bounds(window, table),
        "answer": words.answer(row), "certificate": words.certificate(row), "limits": words.limits(row),
        "degraded": bool(row["degraded"]), "coverage": digits(row["coverage"]),
    }  # fmt: skip


def _coreset(window: WindowSummary) -> pa.Table:
    """Its rows; none where only centers were written, as `solve` does for a range of k."""
    try:
        return window.table("coreset")
    except DamagedFileError:
        raise
    except ValueError:
        return table_schemas.SCHEMAS["coreset"].empty_table()


def _on(points: Array, places: Sequence[int | None]) -> Columns:
    """A column for each axis, to so many digits after the point."""
    return {f"a{a}": [rounded(v, of) for v in points[:, a].tolist()] for a, of in enumerate(places)}


def _bulk(values: Array, weights: Array) -> tuple[float, float] | None:
    """Between which numbers most of the weight is, with some room; None where they are one number, or there are none.

    Args:
      values, weights: (m,).
    """
    if not len(values) or not weights.sum() > 0:
        return None
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(share, [(1 - BULK) / 2, (1 + BULK) / 2]).clip(max=len(values) - 1)
    low, high = (float(v) for v in values[order][at])
    room = (high - low) / 2
    return (low - room, high + room) if high > low else None


def _is_far(values: Array, ends: tuple[float, float]) -> bool:
    """Whether some are so far from the others that these would be one spot."""
    return bool(values.max() - values.min() > FAR * (ends[1] - ends[0]))


def _places(centers: Array, points: Array) -> list[int | None]:
    """Digits after the point by which the centers are told apart, of each column."""
    held = centers if len(centers) > 1 else points
    if not len(held):
        return [None] * centers.shape[1]
    low, high = held.min(axis=0), held.max(axis=0)
    found = [decimals(b - a, max(abs(a), abs(b))) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    for more in range(MOST_MORE + 1):  # of centers that are near each other
        places = [None if of is None else of + more for of in found]
        shown = [[rounded(v, of) for v, of in zip(row, places, strict=True)] for row in centers.tolist()]
        if len(np.unique(np.array(shown, np.float64), axis=0)) == len(np.unique(centers, axis=0)):
            return places
    return found


def _clusters(window: WindowSummary, points: Array, centers: Array) -> list[int]:
    """The nearest center of each point; empty where clusters are something else."""
    row = window.row
    if not len(centers) or not len(points) or row["constraint_text"] or row["r"] or row["metric"] != "euclidean":
        return []
    scale = window.scale
    both = (each if scale is None else scale.apply(each) for each in (points, centers))
    index: list[int] = nearest(*both)[0].tolist()
    return index


def _heaviest(window: WindowSummary) -> list[int]:
    """The centers that are shown, the heaviest first."""
    weights = [weight or 0.0 for weight in window.centers_table().column("weight").to_pylist()]
    return sorted(range(len(weights)), key=lambda i: -weights[i])[:MOST_CENTERS]


def _centers(
    window: WindowSummary, before: WindowSummary | None, centers: Array, places: Sequence[int | None]
) -> Columns:
    """The centers, the heaviest first, with what has become of them since the window before; coordinates to so many
    digits after the point."""
    table, last = window.centers_table().to_pylist(), _shares(before)
    total = sum(each["weight"] or 0.0 for each in table) or 1.0
    names = ("name", "weight", "share", "change", "shift", "cost", "row", "place")
    out: Columns = {name: [] for name in names}
    for i in _heaviest(window):
        each = table[i]
        share = (each["weight"] or 0.0) / total
        was = last.get(each["center_id"] or "")
        values = (
            cut(each["center_id"] or str(each["index"])), digits(each["weight"]), digits(share),
            None if was is None else digits(share - was), digits(each["shift"]), digits(each["cost"]),
            cut(each["representative_id"]), [rounded(v, of) for v, of in zip(centers[i].tolist(), places, strict=True)],
        )  # fmt: skip
        for name, value in zip(out, values, strict=True):
            out[name].append(value)
    return out


def _shares(window: WindowSummary | None) -> dict[str, float]:
    """The share of the weight that each center has, by its identity."""
    if window is None:
        return {}
    held = window.centers_table().to_pylist()
    total = sum(each["weight"] or 0.0 for each in held) or 1.0
    return {each["center_id"]: (each["weight"] or 0.0) / total for each in held if each["center_id"]}


def _marginals(window: WindowSummary) -> Columns:
    """Mean, deviation and quantiles of the first columns, with the ends of their intervals; empty where there are none
    of them (local centers, sketches, a range of k)."""
    try:
        rows = window.marginals.slice(0, MOST_MARGINALS).to_pylist()
    except DamagedFileError:
        raise
    except ValueError:  # no coreset to tell them from
        rows = []
    if not rows:
        return {}
    names = [f"{name}{end}" for name in MARGINALS for end in ("", "_low", "_high")]
    spreads = [(row["p95"] or 0.0) - (row["p05"] or 0.0) or row["deviation"] or 0.0 for row in rows]
    places = [decimals(of, abs(row["mean"] or 0.0)) for of, row in zip(spreads, rows, strict=True)]
    out: Columns = {name: [rounded(row[name], of) for row, of in zip(rows, places, strict=True)] for name in names}
    out["places"] = places
    out["name"] = [cut(row["column_name"] or f"f{row['index']}") for row in rows]
    out["refused"] = [row["refused_count"] for row in rows]
    return out


def _bounds(window: WindowSummary, coreset: pa.Table) -> Columns:
    """What the clusters are held to and what they have, the tightest first, and in `said` what there is to say of it;
    empty without a constraint."""
    text = window.row["constraint_text"]
    if not text:
        return {}
    try:
        constraint, held = Constraint.parse(text), window.centers_table().to_pylist()
        if not held:
            _check(constraint, coreset, window.row["k"])
            return {"said": [words.NO_CLUSTERS]}
        left_out = constraint.labelled and any(each["group_weights"] is None for each in held)
        if left_out:  # by a version that did not write them
            constraint = dataclasses.replace(constraint, fair=(), diversity=None)
        labels = held[0]["group_labels"] if constraint.labelled else [""]
        table = [each["group_weights"] if constraint.labelled else [each["weight"]] for each in held]
        of_label = np.array(table, np.float64).T
        found = kept_bounds(constraint.bounds(labels, of_label.sum(axis=1), len(held)), of_label)
    except ValueError as error:
        return {"said": [f"Nothing can be told of the constraint: {cut(str(error))}."]}
    out: Columns = {name: [] for name in KeptBound._fields}
    for each in found[:MOST_BOUNDS]:
        center = held[each.cluster]
        values = (cut(center["center_id"] or str(center["index"])), cut(each.name), each.side, each.share,
                  digits(each.bound), digits(each.held), digits(each.room), each.state)  # fmt: skip
        for name, value in zip(out, values, strict=True):
            out[name].append(value)
    return out | {"said": words.bounds(found, MOST_BOUNDS, left_out)}


def _check(constraint: Constraint, coreset: pa.Table, k: int) -> None:
    """Raises ValueError where no clusters of the sampled rows can keep to a constraint."""
    groups = coreset.column("group_label").to_pylist() if constraint.labelled else [""] * len(coreset)
    weights: dict[str, float] = {}
    for label, weight in zip(groups, coreset.column("weight").to_pylist(), strict=True):
        weights[label or ""] = weights.get(label or "", 0.0) + weight
    if weights:
        constraint.bounds(list(weights), np.array(list(weights.values())), k).check()
