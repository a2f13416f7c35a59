"""Many windows made one: their decisions merged in bounded memory, and the question asked of the result."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.results.summary import summarize
from beam_coresets.summaries.choosing import Identity, Row, period_of
from beam_coresets.summaries.places import ahead
from beam_coresets.summaries.questions import question_of_period
from beam_coresets.summaries.window import WindowSummary

ASKED = ("k", "z", "coreset_size", "method", "outliers", "constraint", "exhaustive", "seed", "quick")


def rolled_up(
    windows: Iterable[WindowSummary],
    key: str,
    skipping: Callable[[], AbstractContextManager[Any]],
    rows: list[Row],
    readers: int = 1,
    **asked: Any,
) -> WindowSummary:
    """One answer for windows that have no time in common.

    Args:
      windows: made one after the other, each read once.
      key: of the answer. rows: of `summaries`, of all windows.
      skipping: what a damaged file is passed over in. readers: threads that read ahead.
      asked: some of `ASKED`.

    Raises:
      ValueError: an unknown question, or windows that can't be merged.
    """
    if unknown := sorted(set(asked) - set(ASKED)):
        raise ValueError(f"rollup: must be asked for {', '.join(ASKED)}, got {unknown[0]}")
    question = question_of_period(rows, asked)
    rollup, identities, scales, named = Rollup(question.sampler, question.seed), list[Identity](), [], None
    for window, decision in ahead(windows, lambda window: window.decision_for(question.columns), readers):
        with skipping():
            rollup.add(decision.result())
            identities.append(window.identity)
            scale = window.scale_for(question.columns)
            if scale not in scales:
                scales.append(scale)
            named = window.named_scale
        if len(scales) > 1:
            raise ValueError(f"scale: must be the same in all windows, got another one in {window.identity.input!r}")
    if not identities:
        raise ValueError(f"windows: must be some that can be read, got none of {len(rows)}")
    summary = summarize(rollup.result(), question, period_of(identities, key), scale=scales[0])
    return WindowSummary.solved(summary, named, ", ".join(dict.fromkeys(each.input for each in identities)))
