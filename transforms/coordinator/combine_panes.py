"""CombinePanes: the verdicts of panes -> those of sliding windows, or of a running summary since the start."""
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec

from beam_coresets.coordinator.decision import Decision, Verdict
from beam_coresets.coordinator.merge import merge, node_sampler, thinned
from beam_coresets.sampling.importance import Sampler
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.window_slices import RunningProgress, SlidingProgress
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.base.coders import VerdictCoder
from beam_coresets.transforms.base.state import read_state, write_state
from beam_coresets.transforms.coordinator.replicas import in_lane


@beam.typehints.with_input_types(Verdict)
@beam.typehints.with_output_types(Verdict)
class CombinePanes(beam.PTransform):
    """Verdicts of panes -> verdicts of windows; fixed windows are their panes and pass as they are.

    A pane that is revised, or comes after a sliding window was answered without it, revises the windows it is in. Until
    then their coverage is less by the share of panes that are missing: of those since the first one, or of all if that
    is not whole itself. A running summary takes each pane once, and the first revision of it; one that comes after
    later ones is in the next report.

    Args:
      windows: how the stream is cut.
      sampler: how coresets are thinned back to size after merging.
      seed: of that.
      half_life: seconds after which a point counts half in a running summary; None: for ever in full.
      coordinators: whose verdicts these are; each replica's are put together apart.

    Raises:
      ValueError: half_life is not positive, or given without a running summary.

    Source: `beam_coresets.coordinator.merge`; which panes are due, `beam_coresets.streaming.window_slices`.

    Example:
      plan = Plan(k=4, shards=5)
      decision = decide(shard_reports(blocks_of(points), plan.merge_reduce), plan.policy)
      panes = [Verdict(t, t + 5, "", 1, "all", t + 5.2, {"": decision}) for t in (0.0, 5.0)]
      p | beam.Create(panes) | CombinePanes(WindowSpec.parse("10s/5s"), plan.sampler)
    """

    def __init__(
        self,
        windows: WindowSpec,
        sampler: Sampler,
        seed: int = 0,
        half_life: float | None = None,
        coordinators: Coordinators = ONE,
    ) -> None:
        super().__init__()
        windows.check_half_life(half_life)
        self._windows, self._sampler, self._seed, self._half_life = windows, sampler, seed, half_life
        self._coordinators = coordinators

    def expand(self, verdicts: PCollection[Verdict]) -> PCollection[Verdict]:
        if self._windows.kind == "fixed":
            return verdicts
        if self._windows.kind == "sliding":
            combine: beam.DoFn = _Slide(self._windows, self._sampler, self._seed)
        else:
            decay = 1.0 if self._half_life is None else 0.5 ** (self._windows.period / self._half_life)
            combine = _Run(self._windows, self._sampler, self._seed, decay)
        return (
            verdicts
            | "Key by group" >> beam.Map(in_lane, self._coordinators).with_output_types(tuple[str, Verdict])
            | "Combine panes" >> beam.ParDo(combine).with_output_types(Verdict)
        )

    def display_data(self) -> dict[str, Any]:
        shown = {"window": self._windows.kind, "size": self._windows.size, "period": self._windows.period}
        return shown if self._half_life is None else {**shown, "half_life": self._half_life}


class _Panes(beam.DoFn):
    """What both have in common."""

    def __init__(self, windows: WindowSpec, sampler: Sampler, seed: int) -> None:
        self._windows, self._sampler, self._seed = windows, sampler, seed
        self._skipped = Metrics.counter("beam_coresets", "panes_skipped")

    def _pane(self, verdict: Verdict) -> int:
        return self._windows.pane((verdict.start + verdict.end) / 2)


class _Slide(_Panes):
    PANES = BagStateSpec("panes", VerdictCoder())
    PROGRESS = ReadModifyWriteStateSpec("book", BytesCoder())

    def process(
        self,
        element: tuple[str, Verdict],
        panes: Any = beam.DoFn.StateParam(PANES),
        state: Any = beam.DoFn.StateParam(PROGRESS),
    ) -> Iterator[Verdict]:
        _, verdict = element
        count = self._windows.panes
        progress = read_state(state, SlidingProgress) or SlidingProgress()
        skipped = progress.skipped
        due = progress.take(self._pane(verdict), verdict.revision, count)
        if progress.skipped > skipped:
            self._skipped.inc()
            return
        write_state(state, progress)
        kept = list(panes.read())
        newest = self._newest([*kept, verdict])
        for last, revision in due:
            yield self._window(progress, newest, last, revision)
        needed = {p: v for p, v in newest.items() if p >= progress.needed(count)}
        if len(needed) <= len(kept):
            panes.clear()
            for one in needed.values():
                panes.add(one)
        else:
            panes.add(verdict)

    def _newest(self, panes: Iterable[Verdict]) -> dict[int, Verdict]:
        out: dict[int, Verdict] = {}
        for verdict in panes:
            number = self._pane(verdict)
            if number not in out or out[number].revision < verdict.revision:
                out[number] = verdict
        return out

    def _window(self, progress: SlidingProgress, newest: Mapping[int, Verdict], last: int, revision: int) -> Verdict:
        wanted = progress.inside(last, self._windows.panes)
        if _is_headless(newest.get(wanted[0])):  # what was there before it is missing as well
            wanted = range(last - self._windows.panes + 1, last + 1)
        inside = [newest[p] for p in wanted if p in newest]
        end = self._windows.bounds(last)[1]
        whole = _merge_verdicts(inside, end - self._windows.size, end, revision, self._sampler, self._seed)
        if len(inside) == len(wanted):
            return whole
        share = len(inside) / len(wanted)
        decisions = {key: _covering(decision, share) for key, decision in whole.decisions.items()}
        return dataclasses.replace(whole, decisions=decisions)


class _Run(_Panes):
    PANES = BagStateSpec("panes", VerdictCoder())
    PROGRESS = ReadModifyWriteStateSpec("book", BytesCoder())
    RUNNING = ReadModifyWriteStateSpec("running", VerdictCoder())

    def __init__(self, windows: WindowSpec, sampler: Sampler, seed: int, decay: float) -> None:
        super().__init__(windows, sampler, seed)
        self._decay = decay

    def process(
        self,
        element: tuple[str, Verdict],
        panes: Any = beam.DoFn.StateParam(PANES),
        state: Any = beam.DoFn.StateParam(PROGRESS),
        running: Any = beam.DoFn.StateParam(RUNNING),
    ) -> Iterator[Verdict]:
        _, verdict = element
        progress = read_state(state, RunningProgress) or RunningProgress()
        skipped = progress.skipped
        taken = progress.take(self._pane(verdict)) if verdict.revision == 1 else []
        if verdict.revision > 1 or progress.skipped > skipped:
            self._skipped.inc()
            return
        write_state(state, progress)
        waiting = {self._pane(one): one for one in [*panes.read(), verdict]}
        total: Verdict | None = running.read() if taken else None
        for pane, steps in taken:
            begins = total is None
            total = self._with(total, waiting.pop(pane), steps)
            if begins or steps > 0:
                yield self._answer(total)
        panes.clear()
        for one in waiting.values():
            panes.add(one)
        if total is not None:
            running.write(total)

    def _with(self, total: Verdict | None, pane: Verdict, steps: int) -> Verdict:
        """The running summary with one more pane (`RunningProgress.take`), on as many points as an inner node has."""
        if total is None:
            return pane
        both = [(total, self._decay ** max(0, steps)), (pane, self._decay ** max(0, -steps))]
        last = pane if steps > 0 else total
        return Verdict(
            min(total.start, pane.start), last.end, last.group, 1, last.reason, last.decided_at,
            _merge_keys(both, self._of_a_node, self._seed), pane.replica,
        )  # fmt: skip

    def _of_a_node(self, decision: Decision) -> Sampler:
        sample = decision.evidence.sample
        return node_sampler(self._sampler, sample.dim, sample.points.itemsize)

    def _answer(self, total: Verdict) -> Verdict:
        decisions = {key: thinned(decision, self._sampler, self._seed) for key, decision in total.decisions.items()}
        return dataclasses.replace(total, revision=1, decisions=decisions)


def _merge_verdicts(
    panes: list[Verdict], start: float, end: float, revision: int, sampler: Sampler, seed: int
) -> Verdict:
    reasons = {pane.reason for pane in panes}
    reason = next(r for r in ("cap", "deadline", "all") if r in reasons)
    decisions = _merge_keys([(pane, 1.0) for pane in panes], lambda _: sampler, seed)
    at = max(pane.decided_at for pane in panes)
    return Verdict(start, end, panes[0].group, revision, reason, at, decisions, panes[0].replica)


def _is_headless(first: Verdict | None) -> bool:
    """Whether a stream may have begun in the middle of its first pane: not all of that is there."""
    return first is not None and any(one.recovery.coverage < 1 for one in first.decisions.values())


def _covering(decision: Decision, share: float) -> Decision:
    """A decision that knows of this share of its window's panes only."""
    recovery = decision.recovery
    less = dataclasses.replace(recovery, coverage=recovery.coverage * share, panes=round(recovery.panes / share))
    return dataclasses.replace(decision, recovery=less)


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
