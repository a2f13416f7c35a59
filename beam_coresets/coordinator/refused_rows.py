"""What was refused in a window: each part counts once, though several shards have read it."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets.coordinator.decision import Decision
from beam_coresets.shards.refused import RefusedRows, added
from beam_coresets.shards.report import Range, ShardReport


def with_refused(decisions: dict[str, Decision], reports: Mapping[str, list[ShardReport]]) -> dict[str, Decision]:
    """The decisions of all keys of a window, which know what was refused in it.

    Args:
      reports: what each key was decided on.
    """
    for key in decisions:  # all keys' reports are of the same ranges
        refused = refused_of(reports[key], decisions[key].recovery.trusted)
        return {name: dataclasses.replace(each, refused=refused) for name, each in decisions.items()}
    return decisions


def refused_of(reports: Sequence[ShardReport], trusted: npt.NDArray[np.bool_]) -> RefusedRows | None:
    """What was refused in the parts that shards have read for themselves, each part counted once.

    The holders of a part read the same rows: of those that are trusted, else of all, the one that has read furthest is
    right.

    Args:
      reports: one a shard. trusted: (shards, parts).

    Returns:
      None where nobody says: no shard has answered, or rows came to the shards through the pipeline.
    """
    if not reports or any(not r.ranges or r.ranges[0].part < 0 for r in reports):
        return None
    best: dict[int, tuple[tuple[Any, ...], Range]] = {}
    for report in reports:
        for r in report.ranges:
            rank = bool(trusted[report.shard, r.part]), r.stop, sum(number for _, number in r.refused)
            if r.part not in best or rank > best[r.part][0]:
                best[r.part] = rank, r
    held = [r for _, r in best.values()]
    return RefusedRows(added(r.refused for r in held), sum(r.rows for r in held))
