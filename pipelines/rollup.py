"""The coresets of many windows or keys -> one for the whole period, with centers and certificate, from their tables."""
import dataclasses
import itertools
import time
from collections.abc import Iterable, Sequence

from rich.console import Console

from beam_coresets.coordinator.evidence import unpack_evidence
from beam_coresets.coordinator.rollup import Rollup
from beam_coresets.declared import declare, declared_as
from beam_coresets.parameters.plan import POINTS_PER_CENTER, PlanParameters
from beam_coresets.pipelines.console import options, show
from beam_coresets.pipelines.console.constraint_options import ConstraintOptions, constraint_of
from beam_coresets.pipelines.console.options import ResultOptions
from beam_coresets.pipelines.results_folder.column_names import by_name
from beam_coresets.pipelines.results_folder.ownership import owning, reading
from beam_coresets.pipelines.results_folder.scale_file import copy_scale
from beam_coresets.pipelines.results_folder.stored import (
    Identity,
    Row,
    WindowOptions,
    common_scale,
    newest,
    outliers_of,
    parts_of,
    require_apart,
)
from beam_coresets.pipelines.running import ending
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary, summarize, summary_of_keys
from beam_coresets.results.weak_coreset import Candidates, merge_candidates, unpack_candidates
from beam_coresets.sampling.importance import Sampler
from beam_coresets.streaming.windows import Window
from beam_coresets.times import iso
from beam_coresets.transforms.writing.claims import Claims, order_of
from beam_coresets.transforms.writing.stored_tables import files_of


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets rollup --input OUT --output PERIOD`; returns the exit code."""
    return options.run_alone(argv, "rollup", RollupOptions, __doc__ or "", run)


@dataclasses.dataclass(frozen=True)
class RollupOptions(ResultOptions, ConstraintOptions, WindowOptions):
    """The options of `rollup`."""

    input: tuple[str, ...] = declare(None, "folders with summaries and coreset tables, of any format", several=True)
    across_keys: bool = declare(False, "one result over all keys (default: one a key)")
    k: int | None = declared_as(
        PlanParameters, "k", None, help="number of centers (default: as many as the windows have)"
    )
    z: float | None = declared_as(PlanParameters, "z", None, help="power of the distance (default: the windows')")
    coreset_size: int | None = declared_as(PlanParameters, "coreset_size", None)
    method: str | None = declared_as(PlanParameters, "method", None, help="default: the windows'")
    exhaustive: bool = declared_as(PlanParameters, "exhaustive", False)
    outliers: float | None = declared_as(
        PlanParameters, "outliers", None,
        help="leave the worst out: so many rows (100), or a share (1%) (default: as much as the windows' centers do)",
    )  # fmt: skip
    seed: int = declared_as(PlanParameters, "seed", 0)


def run(known: RollupOptions, console: Console) -> int:
    """Merges, writes and shows; returns the exit code.

    Raises:
      ValueError: something that can't work; an old result in --output is as it was.
    """
    options.require(known, "input", "output")
    require_apart(known.output, folders=known.input)
    began = time.monotonic()
    with owning(known.output, known.overwrite, "rollup") as place, reading(known.input):
        summary = rolled_up(known)
        outliers = any(answer.outliers is not None for answer in summary.answers)
        claims = Claims(place.folder, known.format, order_of(_weak(known.input), outliers))
        copy_scale(known.input[0], place.folder)
        claims.publish(summary)
    _show(summary, known.output, time.monotonic() - began, console)
    return 0


def rolled_up(known: RollupOptions) -> Summary:
    """The answer for the period, of each key or of all together.

    Raises:
      ValueError: nothing in the period, windows that overlap, or that can't be merged.
    """
    rows = chosen(known)
    question = _question(known, list(rows.values()))
    scale = common_scale(known.input, question.columns)
    questions = _questions(known, question, rows)
    rollups: dict[str, Rollup] = {}
    places: dict[str, list[Candidates]] = {}
    for identity, coreset in parts_of(known.input, rows):
        key = "" if known.across_keys else identity.key
        coreset = by_name(coreset, rows[identity]["columns"], question.columns, "the first window")
        decision = unpack_evidence(rows[identity], coreset, scale)
        rollups.setdefault(key, Rollup(questions[key].sampler, question.seed)).add(decision)
    for identity, table in parts_of(known.input, rows, "candidates") if _weak(known.input) else ():
        key = "" if known.across_keys else identity.key
        table = by_name(table, rows[identity]["columns"], question.columns, "the first window")
        places.setdefault(key, []).append(unpack_candidates(table, scale))
    summaries = []
    for key in sorted(rollups):
        window = _period([identity for identity in rows if known.across_keys or identity.key == key], key)
        decision, candidates = rollups[key].result(), None
        if key in places:
            count = max(question.sampler.k, *map(len, places[key]))
            candidates = merge_candidates(places[key], decision.coreset, count, question.sampler.z, question.seed)
        summaries.append(summarize(decision, questions[key], window, scale=scale, candidates=candidates))
    whole = _period(list(rows), summaries[0].window.key if len(summaries) == 1 else "")
    return summary_of_keys(whole, summaries)


def _weak(folders: Sequence[str]) -> bool:
    """Whether all inputs have candidates for centers, which are then merged."""
    return all(files_of(folder, "candidates") for folder in folders)


def _question(known: RollupOptions, rows: list[Row]) -> Question:
    """What the options ask for, and where they don't, what was asked of the windows."""
    found: Row = {}
    for name in ("z", "method", "metric", "r", "affine"):
        values = sorted({row[name] or 0 if name in ("r", "affine") else row[name] for row in rows})  # older: null
        given = getattr(known, name, None)
        if given is None and len(values) > 1:
            raise ValueError(f"{name}: must be the same in all windows, got {', '.join(map(str, values))}")
        found[name] = values[0] if given is None else given
    k = max(row["k"] for row in rows) if known.k is None else known.k
    size = POINTS_PER_CENTER * k if known.coreset_size is None else known.coreset_size
    r, affine = int(found["r"]), bool(found["affine"])
    sampler = Sampler(k, size, found["z"], found["method"], known.seed, r=r, affine=affine)
    columns = next((tuple(row["columns"]) for row in rows if row["columns"]), None)
    return Question(
        sampler, found["metric"], known.seed, r=r, affine=affine, constraint=constraint_of(known), columns=columns,
        exhaustive=known.exhaustive,
    )  # fmt: skip


def _questions(known: RollupOptions, question: Question, rows: dict[Identity, Row]) -> dict[str, Question]:
    """The question of each key: where the options don't say it, what its windows' centers leave out is left out."""
    mine: dict[str, list[Row]] = {}
    for identity, row in rows.items():
        mine.setdefault("" if known.across_keys else identity.key, []).append(row)
    out = {}
    for key, own in mine.items():
        default = 0.0 if question.constraint is not None or question.r else outliers_of(own)
        outliers = default if known.outliers is None else known.outliers
        out[key] = dataclasses.replace(question, sampler=dataclasses.replace(question.sampler, outliers=outliers))
    return out


def chosen(known: RollupOptions) -> dict[Identity, Row]:
    """The rows of `summaries` that make up the period: of each window the newest revision that has points, if any.

    Of windows with one start and several ends, as running summaries have, the longest counts. Of windows that overlap
    otherwise, those that tile the period are taken.

    Raises:
      ValueError: there are none, they overlap without tiling, or two inputs have the same time.
    """
    rows = newest(known.input, known)
    out: dict[Identity, Row] = {}
    for key in sorted({identity.key for identity in rows}):
        mine = {identity: row for identity, row in rows.items() if identity.key == key}
        parts = [tiling([i for i in mine if i.input == folder]) for folder in sorted({i.input for i in mine})]
        both = sorted((i for i in itertools.chain(*parts) if i.start is not None), key=lambda i: _ticks(i)[0])
        for first, second in itertools.pairwise(both):
            if _ticks(second)[0] < _ticks(first)[1]:
                raise ValueError(
                    f"input: must have each time once, got {iso(_ticks(second)[0] / 1000)} of key {key!r} in "
                    f"{first.input!r} and {second.input!r}"
                )
        out |= {identity: mine[identity] for identity in itertools.chain(*parts)}
    return out


def _ticks(identity: Identity) -> tuple[int, int]:
    """Start and end in milliseconds, the grid that windows are on."""
    assert identity.start is not None
    assert identity.end is not None
    return round(identity.start * 1000), round(identity.end * 1000)


def tiling(windows: Iterable[Identity]) -> list[Identity]:
    """Windows of one input and key that have all of their time once; those outside of time are taken, too.

    Raises:
      ValueError: no choice among those that overlap leaves no gaps.
    """
    outside = [w for w in windows if w.start is None or w.end is None]
    longest: dict[int, Identity] = {}
    for window in (w for w in windows if w.start is not None and w.end is not None):
        start, end = _ticks(window)
        if start not in longest or _ticks(longest[start])[1] < end:
            longest[start] = window
    picked: list[Identity] = []
    at = reach = -(2**62)  # milliseconds: where the last picked one ends, and the last of all so far
    gap = False
    for start in sorted(longest):
        low, high = _ticks(longest[start])
        if low >= at:
            gap = low > at and reach > at
            if gap:
                break
            picked.append(longest[start])
            at = high
        reach = max(reach, high)
    if gap or reach > at:
        since, until = iso(_ticks(picked[0])[0] / 1000), iso(_ticks(picked[-1])[1] / 1000)
        raise ValueError(
            f"window: must not overlap, or tile the period as sliding windows do, got {len(longest)} from "
            f"{since} on that don't; --from {since} --to {until} would do"
        )
    return outside + picked


def _period(identities: list[Identity], key: str) -> Window:
    starts = [i.start for i in identities if i.start is not None]
    ends = [i.end for i in identities if i.end is not None]
    return Window(min(starts), max(ends), key) if starts and ends else Window(key=key)


def _show(summary: Summary, output: str, elapsed: float, console: Console) -> None:
    """One key as `summarize` shows it; several in a line each, the heaviest first."""
    rows = summary.summaries.to_pylist()
    if len(rows) == 1:
        show.result(output, elapsed, console)
        return
    show.several([(row["key"], row) for row in rows], output, console)


if __name__ == "__main__":
    ending.run_and_leave(main)
