"""What has changed, in the tables of a window."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from beam_coresets.comparing.drift import Drift, Reference, drift
from beam_coresets.comparing.seen import Seen
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary
from beam_coresets.solvers.trimmed import TrimmedCenters

FIGURES = ("excess", "excess_low", "excess_high", "moved", "moved_low", "moved_high", "shift")


@dataclasses.dataclass(frozen=True)
class ToldDrift:
    """What tables say has changed: columns of a row of `summaries`, and the shifts of centers in their order."""

    row: Mapping[str, Any]
    shifts: Sequence[float | None]

    @staticmethod
    def read(row: Mapping[str, Any], centers: Sequence[Mapping[str, Any]]) -> ToldDrift:
        """From the rows of a window and key."""
        live = sorted((each for each in centers if each["index"] is not None), key=lambda each: each["index"])
        return ToldDrift({name: row[name] for name in ("drift_of", "drifted", *FIGURES)}, [c["shift"] for c in live])

    def of(self, summary: Summary) -> Summary:
        """A summary of one key that says so; as it is where that has another number of centers."""
        (answer,) = summary.answers
        k = len(self.shifts)
        if k != len(answer.model.centers):
            return summary
        centers = {**answer.centers, "shift": [*self.shifts, *answer.centers["shift"][k:]]}
        answer = dataclasses.replace(answer, row={**answer.row, **self.row}, centers=centers)
        return Summary(summary.window, (answer,), summary.replica)


def compared(
    summary: Summary, seen: Seen, reference: Reference, of: str, question: Question, quick: bool
) -> Summary:
    """A summary of one key with what has changed from a reference to it; as it is where nothing can be compared.

    Args:
      seen: the sample of its window. of: names the reference. question: that it answers.
      quick: see `drift`.

    Raises:
      ValueError: a summary of several keys.
    """
    model = summary.answers[0].model
    most = model.threshold if isinstance(model, TrimmedCenters) else float("inf")
    found = drift(seen, model, reference, question.sampler.z, question.metric, most, question.seed, quick)
    return summary if found is None else with_drift(summary, found, of)


def with_drift(summary: Summary, found: Drift, of: str) -> Summary:
    """A summary of one key that says what has changed.

    Args:
      of: names the window that it was compared with.

    Raises:
      ValueError: a summary of several keys, or drift of another number of centers.
    """
    if len(summary.answers) != 1:
        raise ValueError(f"summary: must be of one key, got {len(summary.answers)}")
    (answer,) = summary.answers
    k = len(answer.model.centers)
    if len(found.shifts) != k:
        raise ValueError(f"shifts: must be one for each of {k} centers, got {len(found.shifts)}")
    row = {"drift_of": of, "drifted": found.drifted}
    row |= {name: _known(float(getattr(found, name))) for name in FIGURES}
    return ToldDrift(row, [_known(shift) for shift in found.shifts.tolist()]).of(summary)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
