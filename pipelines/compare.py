"""Two windows, periods or folders side by side: what has changed, how sure that is, and which rows are behind it."""
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from beam_coresets.comparing.drift import FALSE_ALARMS
from beam_coresets.declared import declare
from beam_coresets.pipelines.console import options, show
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions
from beam_coresets.pipelines.results_folder.comparison import Comparison, compare
from beam_coresets.pipelines.results_folder.ownership import reading
from beam_coresets.pipelines.results_folder.stored import on_newest_day, seconds_or_time_of_day
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.launch import DONE, DRIFTED, JobError
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.running.waiting import Awaited
from beam_coresets.summaries.collection import StoredSummaries, open_summaries
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.times import iso

MOST_SHOWN = 8  # clusters and centers
_EPILOG = (
    "beam-coresets compare A B compares A with B, the reference; compare A alone the last window of A that has rows "
    "with the one before. Exit codes: 0 no drift, 3 drift, 1 failed (nothing to compare), 2 asked for something that "
    "can't work."
)


@dataclasses.dataclass(frozen=True)
class CompareOptions(TerminalOptions):
    """The options of `compare`."""

    input: str = declare(None, "the folder whose window is looked at")
    reference: str | None = declare(None, "the folder that it is compared with (default: the same)")
    window: float | None = declare(
        None, "the window that holds this time (default: the last with rows; 15:12 is of the newest day, UTC)",
        metavar="TIME", read=seconds_or_time_of_day,
    )  # fmt: skip
    other: float | None = declare(
        None, "the reference's window that holds this time (default: its last; in one folder the one before)",
        spelled="with", metavar="TIME", read=seconds_or_time_of_day,
    )  # fmt: skip
    start: float | None = declare(
        None, "in place of a window the period from here on, rolled up", spelled="from", metavar="TIME",
        read=seconds_or_time_of_day,
    )  # fmt: skip
    end: float | None = declare(
        None, "the period up to here", spelled="to", metavar="TIME", read=seconds_or_time_of_day
    )
    with_start: float | None = declare(
        None, "the reference's period from here on", spelled="with_from", metavar="TIME",
        read=seconds_or_time_of_day,
    )  # fmt: skip
    with_end: float | None = declare(
        None, "the reference's period up to here", spelled="with_to", metavar="TIME",
        read=seconds_or_time_of_day,
    )  # fmt: skip
    key: str | None = declare(None, "of this key, where there are several")


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets compare A B`; returns the exit code."""
    words = options.with_folder(argv, ("input", "reference"))
    return options.run_alone(words, "compare", CompareOptions, __doc__ or "", run, _EPILOG)


def run(known: CompareOptions, console: Terminal) -> int:
    """Compares and shows; returns the exit code.

    Raises:
      ValueError: something that can't work. JobError: nothing to compare.
    """
    options.require(known, "input")
    folders = list(dict.fromkeys([known.input, known.reference or known.input]))
    known, said = on_newest_day(known, ("window", "start", "end"), known.input)
    known, more = on_newest_day(known, ("other", "with_start", "with_end"), folders[-1])
    show.notes(list(dict.fromkeys([*said, *more])), console)
    with reading(folders), Awaited(console.aside, "reading the windows") as waiting:
        this, other = chosen(known)
        waiting.tell("comparing the windows")
        found = compare(this, other)
    if found is None:
        raise JobError(f"nothing to compare: {_name(this)} or {_name(other)} has no rows in common parts")
    console.answer("compare", **as_json(this, other, found))
    _show(this, other, found, console)
    return DRIFTED if found.drift.drifted else DONE


def chosen(known: CompareOptions) -> tuple[WindowSummary, WindowSummary]:
    """The window that is looked at, and the one that it is compared with.

    Raises:
      ValueError: there is none, or both are the same.
    """
    for one, period in ((known.window, (known.start, known.end)), (known.other, (known.with_start, known.with_end))):
        if one is not None and period != (None, None):
            name, rest = ("window", "from and to") if one is known.window else ("with", "with_from and with_to")
            raise ValueError(f"{name}: must be left out with {rest}, got {iso(one)}")
    mine = open_summaries(known.input)
    its = mine if known.reference is None else open_summaries(known.reference)
    this = _one(mine, known.window, known.start, known.end, known.key)
    if known.reference is None and (known.other, known.with_start, known.with_end) == (None, None, None):
        if this.start is None:
            raise ValueError(f"reference: must be given beside {known.input!r}, which is no stream, got none")
        before = its.between(None, this.start)
        if not len(before):
            raise ValueError(f"with: must be a window before {_name(this)} in {known.input!r}, got none")
        return this, _newest(before, known.key if known.key is not None else this.key)
    other = _one(its, known.other, known.with_start, known.with_end, known.key)
    if known.reference in (None, known.input) and this.identity[1:4] == other.identity[1:4]:
        raise ValueError(f"with: must be another window than the one compared, got {_name(other)} for both")
    return this, other


def _one(
    windows: StoredSummaries, at: float | None, start: float | None, end: float | None, key: str | None
) -> WindowSummary:
    """The window at a time, the period rolled up, or the last window with rows."""
    if start is not None or end is not None:
        return windows.between(start, end).rollup(key)
    return _newest(windows, key) if at is None else windows.window(at, key)


def _newest(windows: StoredSummaries, key: str | None) -> WindowSummary:
    """The last window that has rows, also of a stream that has fallen silent; the last one where none has any."""
    last = windows.latest(key)
    if last.row["points"] or last.start is None:
        return last
    earlier = [each for each in windows.between(None, last.start) if each.key == last.key and each.row["points"]]
    return earlier[-1] if earlier else last


def _name(window: WindowSummary) -> str:
    if window.start is None or window.end is None:
        span = "all"
    else:
        span = f"{iso(window.start.timestamp())} to {iso(window.end.timestamp())}"
    return f"{span}{f', key {window.key}' if window.key else ''}"


def as_json(this: WindowSummary, other: WindowSummary, found: Comparison) -> dict[str, Any]:
    """What --json prints; what is not known is null."""
    figures = ("excess", "excess_low", "excess_high", "moved", "moved_low", "moved_high", "shift", "probability")
    drift = {name: _known(getattr(found.drift, name)) for name in figures}
    sides = {
        name: {"folder": w.identity.input, "start": w.start and w.start.isoformat(),
               "end": w.end and w.end.isoformat(), "key": w.key, "points": w.row["points"],
               "coverage": w.row["coverage"]}
        for name, w in (("window", this), ("reference", other))
    }  # fmt: skip
    return {
        **sides, "drifted": found.drift.drifted, "false_alarms": FALSE_ALARMS, **drift,
        "clusters": [dataclasses.asdict(each) for each in found.clusters],
        "centers": [dataclasses.asdict(each) for each in found.centers], "rows": list(found.rows),
    }  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _show(this: WindowSummary, other: WindowSummary, found: Comparison, console: Terminal) -> None:
    drift = found.drift
    console.print(f"{escape(_name(this))} compared with {escape(_name(other))}", highlight=False, soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    verdict = "[bold red]yes[/]" if drift.drifted else "no"
    table.add_row("[bold]drifted[/]", f"{verdict} (a quiet source gives as much with probability "
                  f"{_odds(drift.probability)}; from {FALSE_ALARMS:g} on that is no drift)")  # fmt: skip
    table.add_row("[bold]excess[/]", f"{_percent(drift.excess, '+')} ({_percent(drift.excess_low, '+')} to "
                  f"{_percent(drift.excess_high, '+')}): cost of its centers over this window's")  # fmt: skip
    table.add_row("[bold]moved[/]", f"{_percent(drift.moved)} ({_percent(drift.moved_low)} to "
                  f"{_percent(drift.moved_high)}) of the rows between the reference's clusters")  # fmt: skip
    shift = "-" if math.isnan(drift.shift) else f"{drift.shift:.2f}"
    table.add_row("[bold]shift[/]", f"{shift} spreads, the farthest center's")
    if found.rows:
        table.add_row("[bold]rows[/]", f"{escape(', '.join(found.rows))}: served worst by the reference's centers")
    console.print(table, highlight=False)
    _show_clusters(found, console)
    _show_centers(found, console)


def _show_clusters(found: Comparison, console: Terminal) -> None:
    table = Table(title="the reference's clusters", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("cluster", "representative", "before", "now", "change, 95 %", "rows farthest from its center"):
        table.add_column(name, justify="right" if name in ("before", "now", "change, 95 %") else "left")
    for each in found.clusters[:MOST_SHOWN]:
        change = f"{each.low:+.2%} to {each.high:+.2%}"
        table.add_row(each.center_id or str(each.index), escape(each.representative_id or "-"), f"{each.before:.2%}",
                      f"{each.now:.2%}", change, escape(", ".join(each.rows[:3])))  # fmt: skip
    console.print(table, highlight=False)


def _show_centers(found: Comparison, console: Terminal) -> None:
    table = Table(title="this window's centers", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("center", "representative", "shift"):
        table.add_column(name, justify="right" if name == "shift" else "left")
    for each in found.centers[:MOST_SHOWN]:
        shift = "no rows there before" if each.shift is None else f"{each.shift:.2f}"
        table.add_row(each.center_id or str(each.index), escape(each.representative_id or "-"), shift)
    console.print(table, highlight=False)


def _percent(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.1%}"


def _odds(probability: float) -> str:
    return f"{show.number(probability, 2)}" if probability > 1e-12 else "below 1e-12"


if __name__ == "__main__":
    ending.run_and_leave(main)
