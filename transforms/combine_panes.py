"""CombinePanes: the verdicts of panes -> those of sliding windows, or of a running summary since the start."""
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

from beam_coresets.coordinator import Decision, Verdict
from beam_coresets.merged import merge, node_sampler, thinned
from beam_coresets.panes import PaneBook
from beam_coresets.sampling import Sampler
from beam_coresets.transforms.coders import VerdictCoder
from beam_coresets.windows import WindowSpec

RUNNING_PANES = 4  # a running summary does not wait for a pane once one so much later has been decided


@beam.typehints.with_input_types(Verdict)
@beam.typehints.with_output_types(Verdict)
class CombinePanes(beam.PTransform):
    """Verdicts of panes -> verdicts of windows; fixed windows are their panes and pass as they are.

    A pane that is revised revises the sliding windows it is in; a running summary takes each pane once, and the first
    revision of it.

    Args:
      windows: how the stream is cut.
      sampler: how coresets are thinned back to size after merging.
      seed: of that.
      half_life: seconds after which a point counts half in a running summary; None: for ever in full.

    Raises:
      ValueError: half_life is not positive, or given without a running summary.
    """

    def __init__(
        self, windows: WindowSpec, sampler: Sampler, seed: int = 0, half_life: float | None = None
    ) -> None:
        super().__init__()
        if half_life is not None and windows.kind != "global":
            raise ValueError(f"half_life: must be left out unless the window is global, got {half_life:g}")
        if half_life is not None and not half_life > 0:
            raise ValueError(f"half_life: must be positive, got {half_life:g}")
        self._windows, self._sampler, self._seed, self._half_life = windows, sampler, seed, half_life

    def expand(self, verdicts: Any) -> Any:
        if self._windows.kind == "fixed":
            return verdicts
        if self._windows.kind == "sliding":
            combine: beam.DoFn = _Slide(self._windows, self._sampler, self._seed)
        else:
            decay = 1.0 if self._half_life is None else 0.5 ** (self._windows.period / self._half_life)
            combine = _Run(self._windows, self._sampler, self._seed, decay)
        return (
            verdicts
            | "Key by group" >> beam.Map(lambda verdict: (verdict.group, verdict)).with_output_types(
                tuple[str, Verdict]
            )
            | "Combine panes" >> beam.ParDo(combine).with_output_types(Verdict)
        )

    def display_data(self) -> dict[str, Any]:
        shown = {"window": self._windows.kind, "size": self._windows.size, "period": self._windows.period}
        return shown if self._half_life is None else {**shown, "half_life": self._half_life}


class _Panes(beam.DoFn):
    """What both have in common: the panes that are still needed, and the book of them."""

    def __init__(self, windows: WindowSpec, sampler: Sampler, seed: int) -> None:
        self._windows, self._sampler, self._seed = windows, sampler, seed
        self._skipped = Metrics.counter("beam_coresets", "panes_skipped")

    def _pane(self, verdict: Verdict) -> int:
        middle = (verdict.start + verdict.end) / 2
        return int(self._windows.pane_of(np.array([middle]))[0])

    def _noted(self, state: Any, pane: int, revision: int, panes: int) -> tuple[PaneBook, list[tuple[int, int]]]:
        held = state.read()
        book = PaneBook() if held is None else PaneBook.from_json(held.decode())
        skipped = book.skipped
        due = book.take(pane, revision, panes)
        self._skipped.inc(book.skipped - skipped)
        state.write(book.to_json().encode())
        return book, due

    def _newest(self, panes: Iterable[Verdict]) -> dict[int, Verdict]:
        out: dict[int, Verdict] = {}
        for verdict in panes:
            number = self._pane(verdict)
            if number not in out or out[number].revision < verdict.revision:
                out[number] = verdict
        return out


class _Slide(_Panes):
    PANES = BagStateSpec("panes", VerdictCoder())
    BOOK = ReadModifyWriteStateSpec("book", BytesCoder())

    def process(
        self,
        element: tuple[str, Verdict],
        panes: Any = beam.DoFn.StateParam(PANES),
        state: Any = beam.DoFn.StateParam(BOOK),
    ) -> Iterator[Verdict]:
        _, verdict = element
        count = self._windows.panes
        book, due = self._noted(state, self._pane(verdict), verdict.revision, count)
        held = [*panes.read(), verdict]
        newest = self._newest(held)
        for last, revision in due:
            inside = [newest[p] for p in range(last - count + 1, last + 1) if p in newest]
            if inside:
                end = self._windows.bounds(last)[1]
                yield _merged(inside, end - self._windows.size, end, revision, self._sampler, self._seed)
        kept = [v for p, v in newest.items() if p >= book.needed(count)]
        if len(kept) < len(held):
            panes.clear()
            for one in kept:
                panes.add(one)
        else:
            panes.add(verdict)


class _Run(_Panes):
    PANES = BagStateSpec("panes", VerdictCoder())
    BOOK = ReadModifyWriteStateSpec("book", BytesCoder())
    RUNNING = ReadModifyWriteStateSpec("running", VerdictCoder())

    def __init__(self, windows: WindowSpec, sampler: Sampler, seed: int, decay: float) -> None:
        super().__init__(windows, sampler, seed)
        self._decay = decay

    def process(
        self,
        element: tuple[str, Verdict],
        panes: Any = beam.DoFn.StateParam(PANES),
        state: Any = beam.DoFn.StateParam(BOOK),
        running: Any = beam.DoFn.StateParam(RUNNING),
    ) -> Iterator[Verdict]:
        _, verdict = element
        if verdict.revision > 1:
            self._skipped.inc()
            return
        book, _ = self._noted(state, self._pane(verdict), verdict.revision, RUNNING_PANES)
        waiting = self._newest([*panes.read(), verdict])
        total: Verdict | None = running.read()
        while waiting:
            pane = min(waiting)
            before = None if total is None else self._windows.pane_of(np.array([total.end - 1e-3]))[0]
            if before is not None and pane <= before:
                self._skipped.inc()
                del waiting[pane]
                continue
            if before is not None and pane != before + 1 and max(book.decided) < pane + RUNNING_PANES:
                break
            total = self._with(total, waiting.pop(pane), 1 if before is None else int(pane - before))
            yield self._answer(total)
        panes.clear()
        for one in waiting.values():
            panes.add(one)
        if total is not None:
            running.write(total)

    def _with(self, total: Verdict | None, pane: Verdict, steps: int) -> Verdict:
        """The running summary with one more pane, on as many points as an inner node has."""
        if total is None:
            return pane
        both = [(total, self._decay**steps), (pane, 1.0)]
        return Verdict(
            total.start, pane.end, pane.group, 1, pane.reason, pane.decided_at,
            _merge_keys(both, lambda d: node_sampler(self._sampler, d.evidence.sample.dim), self._seed),
        )  # fmt: skip

    def _answer(self, total: Verdict) -> Verdict:
        decisions = {key: thinned(decision, self._sampler, self._seed) for key, decision in total.decisions.items()}
        return Verdict(total.start, total.end, total.group, 1, total.reason, total.decided_at, decisions)


def _merged(panes: list[Verdict], start: float, end: float, revision: int, sampler: Sampler, seed: int) -> Verdict:
    reasons = {pane.reason for pane in panes}
    reason = next(r for r in ("cap", "deadline", "all") if r in reasons)
    decisions = _merge_keys([(pane, 1.0) for pane in panes], lambda _: sampler, seed)
    return Verdict(start, end, panes[0].group, revision, reason, max(p.decided_at for p in panes), decisions)


def _merge_keys(panes: list[tuple[Verdict, float]], sampler_of: Any, seed: int) -> Mapping[str, Decision]:
    """The decisions of each key in any of the panes, merged; the empty key only where no other has anything."""
    keys = sorted(set(itertools.chain.from_iterable(pane.decisions for pane, _ in panes)))
    if len(keys) > 1:
        keys = [key for key in keys if key or any("" in p.decisions and p.decisions[""].points for p, _ in panes)]
    out = {}
    for key in keys:
        inside = [(pane.decisions[key], factor) for pane, factor in panes if key in pane.decisions]
        whole = merge([decision for decision, _ in inside], [factor for _, factor in inside])
        out[key] = thinned(whole, sampler_of(whole), seed)
    return out
