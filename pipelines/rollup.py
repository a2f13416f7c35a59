"""The coresets of many windows or keys -> one for the whole period, with centers and certificate, from their tables."""
import argparse
import datetime
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beam_coresets import sampling, tables
from beam_coresets.merged import Rollup, unpack
from beam_coresets.pipelines import launch, options, show
from beam_coresets.pipelines.summarize import put_back, set_aside
from beam_coresets.pipelines.verify import read_scale
from beam_coresets.sampling import Sampler
from beam_coresets.scale import Scale
from beam_coresets.summary import Question, Summary, Window, summarize, together
from beam_coresets.transforms.atomic_files import read, write_once
from beam_coresets.transforms.claims import Claims, place_of
from beam_coresets.transforms.sinks import files_of
from beam_coresets.transforms.summarize import POINTS_PER_CENTER

MOST_KEYS_SHOWN = 20

Row = dict[str, Any]
Newest = dict[tuple[str, Any, Any, str], tuple["Identity", Row]]


class Identity(NamedTuple):
    """Which rows of the tables belong together: those of one window, key and revision of one input."""

    input: str
    start: float | None
    end: float | None
    key: str
    revision: int


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets rollup --input OUT --output PERIOD`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="beam-coresets rollup", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--input", nargs="+", action="extend", help="folders with summaries and coreset tables, of any format")
    add("--output", help="folder for the tables of the period")
    add("--from", dest="start", type=seconds, metavar="TIME", help="windows that start no earlier (ISO 8601, UTC)")
    add("--to", dest="end", type=seconds, metavar="TIME", help="windows that end no later")
    add("--keys", type=lambda text: text.split(","), help="only these keys, comma-separated")
    add("--across_keys", action="store_true", help="one result over all keys (default: one a key)")
    add("--k", type=int, help="number of centers (default: as many as the windows have)")
    add("--z", type=float, help="power of the distance (default: the windows')")
    add("--coreset_size", type=int, help="points a shard keeps (default: 40 k)")
    add("--method", choices=sampling.METHODS, help="default: the windows'")
    add("--seed", type=int, default=0)
    add("--format", default="avro", choices=tables.FORMATS, help="of the tables (default: avro)")
    add("--overwrite", action="store_true", help="replace another run's tables in --output")
    add("--verbose", action="store_true", help="show warnings and whole error reports")
    known = parser.parse_args(argv)
    launch.quiet(known.verbose)
    return launch.exit_code(lambda: run(known, Console()))


def run(known: argparse.Namespace, console: Console) -> int:
    """Merges, writes and shows; returns the exit code.

    Raises:
      ValueError: something that can't work; an old result in --output is as it was.
    """
    options.require(known, "input", "output")
    if known.output.rstrip("/") in [folder.rstrip("/") for folder in known.input]:
        raise ValueError(f"output: must not be one of the inputs, got {known.output!r}")
    claims, began = Claims(known.output, known.format), time.monotonic()
    summary = rolled_up(known)
    aside = set_aside(known.output, known.overwrite)
    try:
        if read_scale(known.input[0]) is not None:
            scale = read(FileSystems.join(known.input[0], "scale.json"))
            write_once(FileSystems.join(known.output, "scale.json"), scale)
        claims.publish(summary)
    except BaseException:  # an interrupt, too
        put_back(known.output, aside)
        raise
    if aside:
        FileSystems.delete(list(aside.values()))
    _show(summary, known.output, time.monotonic() - began, console)
    return 0


def rolled_up(known: argparse.Namespace) -> Summary:
    """The answer for the period, of each key or of all together.

    Raises:
      ValueError: nothing in the period, windows that overlap, or that can't be merged.
    """
    rows = chosen(known)
    question, scale = _question(known, list(rows.values())), _scale(known.input)
    rollups: dict[str, Rollup] = {}
    for identity, coreset in _coresets(known.input, rows):
        key = "" if known.across_keys else identity.key
        decision = unpack(rows[identity], coreset, scale)
        rollups.setdefault(key, Rollup(question.sampler, question.seed)).add(decision)
    summaries = []
    for key in sorted(rollups):
        window = _period([identity for identity in rows if known.across_keys or identity.key == key], key)
        summaries.append(summarize(rollups[key].result(), question, window, scale=scale))
    whole = _period(list(rows), summaries[0].window.key if len(summaries) == 1 else "")
    return together(whole, summaries)


def _question(known: argparse.Namespace, rows: list[Row]) -> Question:
    """What the options ask for, and where they don't, what was asked of the windows."""
    found = {}
    for name in ("z", "method", "metric"):
        values = sorted({row[name] for row in rows})
        given = getattr(known, name, None)
        if given is None and len(values) > 1:
            raise ValueError(f"{name}: must be the same in all windows, got {', '.join(map(str, values))}")
        found[name] = values[0] if given is None else given
    k = max(row["k"] for row in rows) if known.k is None else known.k
    size = POINTS_PER_CENTER * k if known.coreset_size is None else known.coreset_size
    return Question(Sampler(k, size, found["z"], found["method"], known.seed), found["metric"], known.seed)


def _scale(folders: Iterable[str]) -> Scale | None:
    scales = {read_scale(folder) for folder in folders}
    if len(scales) > 1:
        raise ValueError(f"scale: must be the same in all inputs, got {len(scales)} different ones")
    return scales.pop()


def chosen(known: argparse.Namespace) -> dict[Identity, Row]:
    """The rows of `summaries` that make up the period: of each window the newest revision that has points, if any.

    Of windows with one start and several ends, as running summaries have, the longest counts. Of windows that overlap
    otherwise, those that tile the period are taken.

    Raises:
      ValueError: there are none, they overlap without tiling, or two inputs have the same time.
    """
    newest: Newest = {}
    for identity, row in _summaries(known):
        name = identity[:4]
        if name not in newest or _rank(*newest[name]) < _rank(identity, row):
            newest[name] = identity, row
    if any(row["points"] for _, row in newest.values()):
        newest = _without_empty_key(newest)
    if not newest:
        raise ValueError(f"input: must have windows in the period, got none of {', '.join(known.input)} there")
    out: dict[Identity, Row] = {}
    for key in sorted({identity.key for identity, _ in newest.values()}):
        mine = {identity: row for identity, row in newest.values() if identity.key == key}
        parts = [tiling([i for i in mine if i.input == folder]) for folder in sorted({i.input for i in mine})]
        both = sorted((i for i in itertools.chain(*parts) if i.start is not None), key=lambda i: _ticks(i)[0])
        for first, second in itertools.pairwise(both):
            if _ticks(second)[0] < _ticks(first)[1]:
                raise ValueError(
                    f"input: must have each time once, got {_shown(second.start)} of key {key!r} in {first.input!r} "
                    f"and {second.input!r}"
                )
        out |= {identity: mine[identity] for identity in itertools.chain(*parts)}
    return out


def _rank(identity: Identity, row: Row) -> tuple[bool, int]:
    """Which of several rows of a window and key counts: of the empty key, groups without rows may have some, too."""
    return row["points"] > 0, identity.revision


def _without_empty_key(newest: Newest) -> Newest:
    """Without the empty key where it is there only because nobody has had rows of any."""
    if any(row["points"] for identity, row in newest.values() if not identity.key):
        return newest
    return {name: each for name, each in newest.items() if each[0].key}


def _summaries(known: argparse.Namespace) -> Iterator[tuple[Identity, Row]]:
    """The rows that the period and the keys leave, file by file."""
    for folder in dict.fromkeys(known.input):
        for table in _tables(folder, "summaries"):
            for row in table.to_pylist():
                start, end, key = row["window_start"], row["window_end"], row["key"] or ""
                late = known.end is not None and (end is None or end > known.end)
                early = known.start is not None and (start is None or start < known.start)
                if not late and not early and (known.keys is None or key in known.keys):
                    yield Identity(folder, start, end, key, row["revision"]), row


def _tables(folder: str, name: str) -> Iterator[pa.Table]:
    """The files of a table one after the other, in the order of their windows, with the table's types."""
    found = [(path, form) for form in tables.FORMATS for path in files_of(folder, name, f".{form}")]
    if not found:
        raise ValueError(f"input: must hold a {name} table, got {folder!r} without {name}/*.avro, *.parquet or *.jsonl")
    for path, form in sorted(found, key=lambda each: place_of(each[0])):
        yield tables.typed(tables.decode(read(path), form), name)


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
        first, last = picked[0], picked[-1]
        raise ValueError(
            f"window: must not overlap, or tile the period as sliding windows do, got {len(longest)} from "
            f"{_shown(first.start)} on that don't; --from {_shown(first.start)} --to {_shown(last.end)} would do"
        )
    return outside + picked


def _coresets(folders: Iterable[str], rows: dict[Identity, Row]) -> Iterator[tuple[Identity, pa.Table]]:
    """The rows of `coreset` of each chosen window; a file is in memory at a time."""
    left = set(rows)
    for folder in dict.fromkeys(folders):
        for table in _tables(folder, "coreset"):
            for identity, part in _runs(folder, table):
                if identity in left:
                    left.remove(identity)
                    yield identity, part
    for identity in sorted(left, key=lambda i: (i.input, i.start or 0.0, i.key)):
        yield identity, tables.CORESET.empty_table()  # refused unless the window was empty


def _runs(folder: str, table: pa.Table) -> Iterator[tuple[Identity, pa.Table]]:
    """The rows of one window, key and revision, which are side by side."""
    if not len(table):
        return
    new = np.zeros(len(table), np.bool_)
    new[0] = True
    for name in tables.CORESET.names[:4]:
        codes = table.column(name).combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
        new[1:] |= codes[1:] != codes[:-1]
    edges = [*np.flatnonzero(new).tolist(), len(table)]
    for low, high in itertools.pairwise(edges):
        start, end, key, revision = (table.column(name)[low].as_py() for name in tables.CORESET.names[:4])
        yield Identity(folder, start, end, key or "", revision), table.slice(low, high - low)


def _period(identities: list[Identity], key: str) -> Window:
    starts = [i.start for i in identities if i.start is not None]
    ends = [i.end for i in identities if i.end is not None]
    return Window(min(starts), max(ends), key) if starts and ends else Window(key=key)


def seconds(text: str) -> float:
    """A time in seconds since the epoch, from such a number or ISO 8601; UTC unless it says otherwise."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time such as 2026-11-21T08:00, got {text!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _shown(at: float | None) -> str:
    """A time that `seconds` takes, without spaces; as a number where the calendar ends."""
    assert at is not None
    try:
        return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return repr(at)


def _show(summary: Summary, output: str, elapsed: float, console: Console) -> None:
    """One key as `summarize` shows it; several in a line each, the heaviest first."""
    rows = summary.summaries.to_pylist()
    if len(rows) == 1:
        show.result(output, elapsed, console)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("key", "points", "total weight", "coverage", "cost", "95 % interval", "centers"):
        table.add_column(name, justify="left" if name == "key" else "right")
    for row in sorted(rows, key=lambda row: (-row["total_weight"], row["key"]))[:MOST_KEYS_SHOWN]:
        interval = f"{show.number(row['cost_low'])} to {show.number(row['cost_high'])}"
        shown = [show.number(row[name]) for name in ("total_weight", "coverage", "cost")]
        table.add_row(escape(row["key"]), f"{row['points']:,}", *shown, interval, str(row["centers"]))
    console.print(table, highlight=False)
    more = f"{len(rows) - MOST_KEYS_SHOWN} more keys. " if len(rows) > MOST_KEYS_SHOWN else ""
    console.print(
        f"\n{more}Tables in {escape(output)}: summaries, centers, coreset", highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    sys.exit(main())
