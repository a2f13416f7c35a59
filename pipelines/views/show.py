"""A stored result again, as the command that wrote it printed it: a batch, a stream's newest windows, a range of k."""
import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from beam_coresets import table_schemas
from beam_coresets.declared import check_values, declare
from beam_coresets.pipelines.console import live, options, show
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions
from beam_coresets.pipelines.results_folder.ownership import reading
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.views.contents import curve_of, one_place
from beam_coresets.pipelines.views.history import History
from beam_coresets.summaries.places import Place, places_of
from beam_coresets.times import iso
from beam_coresets.transforms.writing.stored_tables import read_table

MOST_EVENTS = 5  # lines
_EPILOG = "beam-coresets show OUT: the folder of summarize, stream, rollup or solve, also of solve for a range of k."


@dataclasses.dataclass(frozen=True)
class ShowOptions(TerminalOptions):
    """The options of `show`."""

    input: str = declare(None, "the output folder that is shown")
    windows: int = declare(20, "of a stream: decisions that are shown, the newest", least=1)


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets show OUT`; returns the exit code."""
    return options.run_alone(options.with_folder(argv), "show", ShowOptions, __doc__ or "", run, _EPILOG)


def run(known: ShowOptions, console: Terminal) -> int:
    """Reads and shows; returns the exit code.

    Raises:
      ValueError: no result, or one that can't be read.
    """
    options.require(known, "input")
    check_values(known, ShowOptions)
    with reading([known.input]):
        place = one_place(known.input)
        if curve_of(place):
            _show_curve(place, known.input, console)
            return 0
        history = History(place, known.windows)
        history.refresh()
        history.require_windows()
        for why in history.skipped.values():
            console.aside.print(f"[yellow]left out:[/] {escape(why)}", highlight=False, soft_wrap=True)
        rows = history.rows()
        spans = set(zip(*(rows.column(name).to_pylist() for name in ("window_start", "window_end")), strict=True))
        if len(spans) > 1 or history.skipped or history.settings().get("job") == "stream":
            _show_stream(history, rows, known.input, console)
        else:
            _show_batch(known.input, console)
    return 0


def _show_batch(folder: str, console: Terminal) -> None:
    rows = read_table(folder, "summaries").to_pylist()
    console.answer("show", **show.stored(folder))
    if len(rows) > 1:
        show.several([(row["key"], row) for row in rows], folder, console)
    else:
        show.result(folder, None, console)


def _show_stream(history: History, rows: pa.Table, folder: str, console: Terminal) -> None:
    """The newest windows, in lines as `stream` prints them, and what there was to tell of them."""
    found, events = rows.to_pylist(), history.events().to_pylist()
    lines = live.Lines(max(row["shards"] for row in found), console.limit)
    if history.older:
        console.print("older windows are left out (--windows)", highlight=False)
    console.print(lines.heading(), highlight=False, soft_wrap=True)
    for row in found:
        for line in lines.of(row):
            console.print(line, highlight=False, soft_wrap=True)
    for event in events[-MOST_EVENTS:]:
        console.print(escape(event["sentence"]), highlight=False, soft_wrap=True)
    told = f"\n{len(found)} windows and keys, {len(events)} events; tables in {escape(folder)}"
    refused = sum(history.letters.values())
    told += f"; {refused:,} refused rows in dead_letters" if refused else ""
    console.print(told, highlight=False, soft_wrap=True)
    console.answer("show", output=folder, refused_rows=refused, summaries=[_with_times(row) for row in found],
                   events=[{"sentence": each["sentence"], "kind": each["kind"]} for each in events])  # fmt: skip


def _with_times(row: dict[str, Any]) -> dict[str, Any]:
    times = {name: row[name] for name in ("window_start", "window_end", "decided_at")}
    return row | {name: None if time is None else iso(time) for name, time in times.items()}


def _show_curve(place: Place, folder: str, console: Terminal) -> None:
    """The cost of each k, of the heaviest window and key."""
    of_k: list[list[dict[str, Any]]] = []
    summaries = []
    for each in places_of(f"{place.name.rstrip('/')}/k=*"):
        table = read_table(each.name, "summaries")
        summaries += show.figures(table)
        of_k.append(table_schemas.in_seconds(table).to_pylist())
    of_k.sort(key=lambda rows: rows[0]["k"])
    heaviest = max(of_k[0], key=lambda row: row["total_weight"])
    same = ("window_start", "window_end", "key")
    curve = [row for rows in of_k for row in rows if all(row[name] == heaviest[name] for name in same)]
    show.curve(curve, len(of_k[0]), console)
    console.print(f"\nIn {escape(folder)}: curve.csv, and summaries and centers of each k", highlight=False,
                  soft_wrap=True)  # fmt: skip
    summaries.sort(key=lambda row: row["k"])
    console.answer("show", output=folder, summaries=summaries)


if __name__ == "__main__":
    ending.run_and_leave(main)
