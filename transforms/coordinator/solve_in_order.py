"""SolveInOrder: verdicts -> summaries whose centers keep their identity from window to window."""
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import DoOutputsTuple, PCollection, TaggedOutput
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from threadpoolctl import threadpool_limits

from beam_coresets import table_schemas
from beam_coresets.comparing.drift import Reference
from beam_coresets.comparing.recent import RecentWindows
from beam_coresets.comparing.told import ToldDrift
from beam_coresets.coordinator.decision import Decision, Verdict
from beam_coresets.points.column_order import moved, names_of_each, places_of
from beam_coresets.points.nearest import nearest
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Answer, Summary, summarize, summary_of_keys, with_identities
from beam_coresets.shards.refused import RefusedRows
from beam_coresets.streaming.center_tracking import CenterHistory, Identities, WindowCenters, directions
from beam_coresets.streaming.events import (
    QUIET,
    CenterMemory,
    CenterWindow,
    EventMemory,
    center_events,
    drift_event,
    window_events,
)
from beam_coresets.streaming.replicas import ONE, Coordinators
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.transforms.coordinator.compared import Comparisons
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference
from beam_coresets.transforms.coordinator.replicas import in_lane
from beam_coresets.transforms.coordinator.solved_state import SolvedState
from beam_coresets.transforms.writing.claims import Claims

DECIDED, ELSEWHERE = "decided", "elsewhere"
REMEMBERED = 64  # windows after which a key that says nothing is forgotten


@beam.typehints.with_input_types(Verdict)
class SolveInOrder(beam.PTransform):
    """Verdicts -> Summaries, one a window, revision and key group.

    Centers are solved from those of the last window before, and matched with them by shared mass (`center_tracking`).
    Where another decision of the window is claimed already, as after a restart, later windows follow the claimed
    one; a run that begins anew follows the last windows that are claimed. Each window is compared with the last one
    before, or with a fixed reference, and says what has changed.

    Args:
      question: k, z, metric and how the coreset was made.
      scale: the scaling of the columns, or None.
      init: (m, d) centers and their ids to begin with, in scaled units; or None.
      claims: where decisions are claimed; None if they are not.
      coordinators: whose verdicts these are; each replica's are solved apart.
      reference: what all windows are compared with; None: each with the last one that shares no time with it.

    Returns:
      `.decided`, Summaries, and `.elsewhere`, (replica, Window) where another replica's decision is claimed: these are
      not solved again.

    Raises:
      ValueError: centers to begin with that can't be.

    Source: `beam_coresets.summarize`; `beam_coresets.streaming.center_tracking` for who is who.

    Example:
      plan = Plan(k=4, shards=5)
      decision = decide(shard_reports(blocks_of(points), plan.merge_reduce), plan.policy)
      verdict = Verdict(0.0, 5.0, "", 1, "all", 5.2, {"": decision})
      p | beam.Create([verdict]) | SolveInOrder(plan.question)
    """

    def __init__(
        self,
        question: Question,
        scale: Scale | None = None,
        init: tuple[Any, tuple[str, ...] | None] | None = None,
        claims: Claims | None = None,
        coordinators: Coordinators = ONE,
        reference: FixedReference | None = None,
    ) -> None:
        super().__init__()
        if init is not None:
            CenterHistory.starting_from(*init)  # raises what is wrong with them now
        self._question, self._scale, self._init, self._claims = question, scale, init, claims
        self._coordinators, self._reference = coordinators, reference

    def expand(self, verdicts: PCollection[Verdict]) -> "DoOutputsTuple":
        solve = _SolveInOrder(self._question, self._scale, self._init, self._claims, self._reference)
        return (
            verdicts
            | "Key by group" >> beam.Map(in_lane, self._coordinators).with_output_types(tuple[str, Verdict])
            | "Solve in order"
            >> beam.ParDo(solve).with_output_types(Summary).with_outputs(ELSEWHERE, main=DECIDED)
        )

    def display_data(self) -> dict[str, Any]:
        sampler = self._question.sampler
        return {"k": sampler.k, "z": sampler.z, "metric": self._question.metric, "method": sampler.method}


class _SolveInOrder(beam.DoFn):
    HISTORIES = ReadModifyWriteStateSpec("lineages", BytesCoder())

    def __init__(
        self, question: Question, scale: Scale | None, init: tuple[Any, Any] | None, claims: Claims | None,
        reference: FixedReference | None = None,
    ) -> None:  # fmt: skip
        self._question, self._scale, self._init, self._claims = question, scale, init, claims
        self._comparisons = Comparisons(question, scale, claims, reference)

    def setup(self) -> None:
        self._limit = threadpool_limits(1, "blas")

    def teardown(self) -> None:
        self._limit.restore_original_limits()

    def process(
        self, element: tuple[str, Verdict], state: Any = beam.DoFn.StateParam(HISTORIES)
    ) -> Iterator[Any]:
        verdict, held = element[1], state.read()
        window = Window(verdict.start, verdict.end, verdict.group, verdict.revision)
        before = self._from_claims(window) if held is None else SolvedState.from_bytes(held)
        histories, recent, memory = dict(before.histories), dict(before.recent), before.memory
        winner = None if self._claims is None else self._claims.winner(window)
        elsewhere = winner not in (None, verdict.replica)
        claimed = {} if winner is None else self._claimed(window)
        drifts = {} if winner is None or elsewhere else self._told(window)
        summaries, told, remembered = [], [], dict(memory.centers)
        for key, decision in () if elsewhere else verdict.decisions.items():
            history = histories.get(key) or self._first(key)
            if decision.points and history.dim not in (None, decision.coreset.dim):
                history = self._first(key)
            known = recent.get(key, RecentWindows())
            summary = self._solved(verdict, key, decision, history)
            (answer,) = summary.answers
            seen = self._comparisons.seen(decision)
            if key in drifts:
                summary = drifts[key].of(summary)
            else:
                summary, known = self._comparisons.compare(verdict, seen, summary, known)
            summary, histories[key], found = self._named(verdict.end, decision, summary, history)
            summaries.append(summary)
            if self._comparisons.by_window and seen is not None and len(answer.model.centers):
                mine = Reference.of(seen, answer.model)
                known = known.with_window(verdict.start, verdict.end, mine, verdict.revision)
            if known.windows:
                recent[key] = known
            if found is not None:
                last = remembered.get(key) or _last(history)
                events, remembered[key] = center_events(found, last)
                told += [(key, event) for event in events]
        for key, centers in claimed.items():
            histories[key] = (histories.get(key) or self._first(key)).with_window(centers)
            if elsewhere and self._comparisons.by_window:
                known = recent.get(key, RecentWindows())
                recent[key] = known.with_window(verdict.start, verdict.end, None, verdict.revision)
        rows = [answer.row for summary in summaries for answer in summary.answers]
        refused = RefusedRows.most(decision.refused for decision in verdict.decisions.values())
        events, of_window = window_events(
            verdict.start, verdict.end, verdict.revision, rows, memory.window, refused
        )
        told = [*(("", event) for event in events), *told]
        horizon = verdict.end - REMEMBERED * (verdict.end - verdict.start)
        memory = self._heard(memory, window.name) if elsewhere else EventMemory(of_window, remembered)
        left = SolvedState(histories, recent, memory)
        state.write(left.since(horizon).to_bytes())
        if elsewhere:
            yield TaggedOutput(ELSEWHERE, (verdict.replica, window))
        else:
            yield summary_of_keys(window, summaries, verdict.replica, told)

    def _from_claims(self, window: Window) -> SolvedState:
        """What an earlier run has left in the tables: of each key the last centers before the window, and what was
        told of the last windows."""
        memory, names = EventMemory(), [] if self._claims is None else self._claims.before(window, REMEMBERED)
        for name in reversed(names[:QUIET]):
            memory = self._heard(memory, name)
        centers = self._last_centers(names)
        recent = self._comparisons.recent_of(names, window) if "" in centers else RecentWindows()
        return SolvedState(centers, {"": recent} if recent.windows else {}, memory)

    def _heard(self, memory: EventMemory, name: str) -> EventMemory:
        """With the claimed decision of the window of this name."""
        assert self._claims is not None
        start, end, _, revision, _ = place_of(name)
        there = self._claims.tables_of(name)
        rows, events = (
            self._claims.read(name, table).to_pylist() if table in there else [] for table in ("summaries", "events")
        )
        return memory.heard(start, end, revision, rows, events)

    def _last_centers(self, names: Sequence[str]) -> dict[str, CenterHistory]:
        """Of each key the last that are claimed in windows of these names, newest first."""
        found: dict[str, CenterHistory] = {}
        for name in names:
            mine = self._claimed(name)
            found |= {key: CenterHistory(key).with_window(one) for key, one in mine.items() if key not in found}
            if mine and "" in found:
                break
        return found

    def _first(self, key: str) -> CenterHistory:
        return CenterHistory(key) if self._init is None else CenterHistory.starting_from(*self._init, key=key)

    def _solved(self, verdict: Verdict, key: str, decision: Decision, history: CenterHistory) -> Summary:
        init = history.start_from(verdict.end)
        k = self._question.sampler.k
        return summarize(
            decision,
            self._question,
            Window(verdict.start, verdict.end, key, verdict.revision),
            scale=self._scale,
            init=None if init is None or init.shape[1] != decision.coreset.dim else init[:k],
            reason=verdict.reason,
            decided_at=verdict.decided_at,
        )

    def _named(
        self, end: float, decision: Decision, summary: Summary, history: CenterHistory
    ) -> tuple[Summary, CenterHistory, CenterWindow | None]:
        """The summary with its centers' identities, the history with it, and what there may be to tell of."""
        (answer,) = summary.answers
        coreset = decision.coreset
        found, after = history.matched(
            end, answer.model.centers, coreset.points, coreset.weights, self._question.metric
        )
        if not found.ids:
            return summary, history, None
        births = {name: born for g in history.windows for name, born in zip(g.ids, g.born.tolist(), strict=True)}
        ended = [(e.id, _known(births.get(e.id)), e.merged_into) for e in found.ended]
        named = with_identities(summary, found.ids, found.born, found.split_from, ended)
        return named, after, self._of_events(end, decision, named.answers[0], found)

    def _of_events(self, end: float, decision: Decision, answer: Answer, found: Identities) -> CenterWindow:
        coreset, metric = decision.coreset, self._question.metric
        everyone = zip(found.ids, found.born, found.split_from, strict=True)
        return CenterWindow(
            end, found.ids, answer.model.centers,
            lambda places: nearest(coreset.points, directions(places, metric))[0],
            coreset.weights, decision.points,
            {name: parent for name, since, parent in everyone if since == end},
            {each.id: each.merged_into for each in found.ended},
            drift_event(answer.row),
        )  # fmt: skip

    def _told(self, window: Window) -> dict[str, ToldDrift]:
        """What the claimed decision of this window says of each key: deciding again says the same."""
        assert self._claims is not None
        rows, centers = (self._claims.read(window, name).to_pylist() for name in ("summaries", "centers"))
        by_key = {row["key"]: [each for each in centers if each["key"] == row["key"]] for row in rows}
        return {row["key"]: ToldDrift.read(row, by_key[row["key"]]) for row in rows}

    def _claimed(self, window: Window | str) -> dict[str, WindowCenters]:
        """The centers of the claimed decision of this window, or of the window of this name, by key."""
        assert self._claims is not None
        table = table_schemas.in_seconds(self._claims.read(window, "centers"))
        rows = [row for row in table.to_pylist() if row["index"] is not None]
        by_key: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_key.setdefault(row["key"], []).append(row)
        end, z = place_of(window if isinstance(window, str) else window.name)[1], self._question.sampler.z
        places = self._places(window, len(rows[0]["coordinates"])) if rows else None
        return {key: _window_centers(end, mine, z, self._scale, places) for key, mine in by_key.items()}

    def _places(self, window: Window | str, dim: int) -> Any:
        """Where our columns are in the claimed centers, if another job has claimed them in another order."""
        assert self._claims is not None
        for row in self._claims.read(window, "summaries").to_pylist()[:1]:
            found, own = (names_of_each(names, dim) for names in (row["columns"], self._question.columns))
            return places_of(found, own, "the stream")
        return None


def _last(history: CenterHistory) -> CenterMemory:
    """What is remembered where only the centers are known; nothing where they were given to begin with."""
    if not history.windows or not np.isfinite(history.windows[-1].end):
        return CenterMemory()
    return CenterMemory(history.windows[-1].end)


def _window_centers(
    end: float, rows: list[dict[str, Any]], z: float, scale: Scale | None, places: Any
) -> WindowCenters:
    """Claimed centers as a history keeps them; the radius from their cost, which is exact for z = 2."""
    centers = moved(np.array([row["coordinates"] for row in rows], np.float64), places)
    weight = np.array([row["weight"] for row in rows])
    cost = np.array([row["cost"] for row in rows])
    radius = np.power(np.divide(cost, weight, out=np.full(len(rows), np.nan), where=weight > 0), 1 / z)
    born = np.array([np.nan if row["born"] is None else row["born"] for row in rows], np.float64)
    ids = tuple(str(row["center_id"]) for row in rows)
    share = weight / weight.sum() if weight.sum() > 0 else np.full(len(rows), np.nan)
    return WindowCenters(end, centers if scale is None else scale.apply(centers), radius, share, ids, born)


def _known(born: float | None) -> float | None:
    return None if born is None or np.isnan(born) else born
