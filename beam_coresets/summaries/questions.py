"""What is asked of stored coresets again: where nothing else is said, what was asked of their windows."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beam_coresets.coordinator.decision import Decision
from beam_coresets.results.question import Question
from beam_coresets.sampling.importance import POINTS_PER_CENTER, Sampler
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.summaries.choosing import Row


def question_again(
    row: Row,
    decision: Decision,
    k: int | None = None,
    z: float | None = None,
    constraint: Constraint | str | None = None,
    outliers: float | None = None,
    seed: int = 0,
    quick: bool = False,
) -> Question:
    """What is asked of one window's coreset.

    Args:
      row: of `summaries`. decision: behind it. The rest as `SummarizedData.solve` takes it.

    Raises:
      ValueError: more centers than distinct points.
    """
    constraint = Constraint.parse(constraint) if isinstance(constraint, str) else constraint
    k, z, r, coreset = row["k"] if k is None else k, row["z"] if z is None else z, int(row["r"] or 0), decision.coreset
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k: must be a whole number from 1 on, got {k!r}")
    if k > 1 and len(coreset):
        distinct = len(np.unique(coreset.points[coreset.weights > 0], axis=0))
        if k > distinct:
            raise ValueError(f"k: must be at most the coreset's {distinct} distinct points, got {k}")
    if outliers is None:
        outliers = 0.0 if r or constraint is not None else outliers_of([row])
    affine = bool(row["affine"]) and r > 0
    size = max(int(k), len(coreset))
    sampler = Sampler(int(k), size, float(z), row["method"], seed, r=r, affine=affine, outliers=outliers)
    return Question(
        sampler, row["metric"], seed, quick=quick, r=r, affine=affine, constraint=constraint,
        columns=row["columns"] and tuple(row["columns"]),
    )  # fmt: skip


def question_of_period(rows: Sequence[Row], asked: Mapping[str, Any]) -> Question:
    """What is asked of several windows together.

    Args:
      rows: of `summaries`.
      asked: `k`, `z`, `coreset_size`, `method`, `outliers`, `constraint`, `exhaustive`, `seed`, `quick`; what is not
        there, or None, is as it was asked of the windows.

    Raises:
      ValueError: the windows differ in what is not said, or in metric or subspaces.
    """
    found: Row = {}
    for name in ("z", "method", "metric", "r", "affine"):
        held = sorted({row[name] or 0 if name in ("r", "affine") else row[name] for row in rows})  # older: null
        given = asked.get(name)
        if given is None and len(held) > 1:
            raise ValueError(f"{name}: must be the same in all windows, got {', '.join(map(str, held))}")
        found[name] = held[0] if given is None else given
    k, size, seed = (asked.get(name) for name in ("k", "coreset_size", "seed"))
    k = max(row["k"] for row in rows) if k is None else k
    size, seed = POINTS_PER_CENTER * k if size is None else size, 0 if seed is None else seed
    r, affine, constraint = int(found["r"]), bool(found["affine"]), asked.get("constraint")
    constraint = Constraint.parse(constraint) if isinstance(constraint, str) else constraint
    outliers = asked.get("outliers")
    if outliers is None:
        outliers = 0.0 if constraint is not None or r else outliers_of(rows)
    sampler = Sampler(k, size, found["z"], found["method"], seed, r=r, affine=affine, outliers=outliers)
    columns = next((tuple(row["columns"]) for row in rows if row["columns"]), None)
    return Question(
        sampler, found["metric"], seed, quick=bool(asked.get("quick")), r=r, affine=affine, constraint=constraint,
        columns=columns, exhaustive=bool(asked.get("exhaustive")),
    )  # fmt: skip


def with_outliers_of(question: Question, rows: Sequence[Row], outliers: float | None) -> Question:
    """The question for some of the windows: where nothing is said, what their centers leave out is left out."""
    default = 0.0 if question.constraint is not None or question.r else outliers_of(rows)
    left_out = default if outliers is None else outliers
    return dataclasses.replace(question, sampler=dataclasses.replace(question.sampler, outliers=left_out))


def outliers_of(rows: Sequence[Row]) -> float:
    """What the centers of these windows leave out together: below 1 a share of their weight, from 1 on a weight."""
    left_out = sum(row["outliers"] or 0.0 for row in rows)
    return left_out if left_out >= 1 else left_out / max(sum(row["total_weight"] for row in rows), left_out, 1e-300)
