"""What earlier runs have written: which windows there are, and the coreset behind each."""
import argparse
import dataclasses
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import FileSystem

from beam_coresets import table_schemas, tables
from beam_coresets.declared import declare, parameters
from beam_coresets.pipelines.results_folder.scale_file import named_scale, read_scale
from beam_coresets.points.column_order import Names
from beam_coresets.points.scale import Scale
from beam_coresets.summaries.choosing import Identity, Row, newest_of
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.summaries.folders import OutputFolder, StoredPart
from beam_coresets.summaries.places import places_of
from beam_coresets.times import TimeOfDay, iso, moment
from beam_coresets.transforms.writing.stored_tables import tables_of

Chosen = TypeVar("Chosen", bound="WindowOptions")
Timed = TypeVar("Timed")


def seconds(text: str) -> float:
    """A time in seconds since the epoch, from such a number or ISO 8601; UTC unless it says otherwise."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from None


def seconds_or_time_of_day(text: str) -> float:
    """As `seconds`, and "15:12" as a `TimeOfDay`."""
    time = TimeOfDay.of(text)
    return seconds(text) if time is None else time


@dataclasses.dataclass(frozen=True)
class WindowOptions:
    """Which windows and keys of the input are meant."""

    start: float | None = declare(
        None, "windows that start no earlier (ISO 8601, UTC; 15:12 is of the newest window's day)", spelled="from",
        metavar="TIME", read=seconds_or_time_of_day,
    )  # fmt: skip
    end: float | None = declare(
        None, "windows that end no later", spelled="to", metavar="TIME", read=seconds_or_time_of_day
    )
    keys: tuple[str, ...] | None = declare(None, "only these keys, comma-separated")


def dated(folders: Sequence[str], known: Chosen, option: str = "input") -> tuple[Chosen, list[str]]:
    """The options with the times of day in them on the day (UTC) on which the newest window starts, and what there is
    to say of that.

    Raises:
      ValueError: a time of day, and no window has a time.
    """

    def last() -> float | None:
        rows = _summaries(folders, WindowOptions(keys=known.keys), option)
        return max((identity.start for identity, _ in rows if identity.start is not None), default=None)

    return _on_day_of(known, ("start", "end"), last)


def on_newest_day(known: Timed, names: Sequence[str], folder: str) -> tuple[Timed, list[str]]:
    """Options whose times of day are on the day (UTC) on which a folder's newest window starts, and what there is to
    say of that.

    Args:
      names: of the options that are about the folder. folder: on this machine, or a URL that fsspec knows.

    Raises:
      ValueError: a time of day, and no window has a time.
    """
    return _on_day_of(known, names, lambda: newest_start(folder))


def newest_start(folder: str) -> float | None:
    """When a folder's newest window starts, by the names of its files; None where none has a time."""
    names: list[str] = []
    for place in places_of(folder):
        for stored in OutputFolder(place).stored:
            names += stored.index.names if isinstance(stored, StoredPart) else [stored.name]
    return max((start for start in (place_of(name)[0] for name in names) if start > -math.inf), default=None)


def _on_day_of(known: Timed, names: Sequence[str], last: Callable[[], float | None]) -> tuple[Timed, list[str]]:
    times = {name: time for name in names if isinstance(time := getattr(known, name), TimeOfDay)}
    if not times:
        return known, []
    newest = last()
    if newest is None:
        kind: Any = type(known)
        spelled = {each.name: each.spelled or each.name for each in parameters(kind)}
        raise ValueError(f"{spelled[min(times)]}: must have its date where no window has a time, got a time of day")
    found: dict[str, Any] = {name: time.on(newest) for name, time in times.items()}
    said = f"times of day are of {iso(newest)[:10]} (UTC), on which the newest window starts"
    return dataclasses.replace(known, **found), [said]  # type: ignore[type-var]


def newest(folders: Iterable[str], known: WindowOptions, option: str = "input") -> dict[Identity, Row]:
    """The rows of `summaries` that the options of `WindowOptions` leave: of each window and key the newest
    revision that has points, if any.

    The empty key is left out where it is there only because nobody has had rows of any.

    Args:
      option: what names the folders, for messages.

    Raises:
      ValueError: there are none.
    """
    found = newest_of(_summaries(folders, known, option))
    if not found:
        raise ValueError(f"{option}: must have windows in the period, got none of {', '.join(folders)} there")
    return found


def _summaries(folders: Iterable[str], known: WindowOptions, option: str) -> Iterator[tuple[Identity, Row]]:
    """The rows that the period and the keys leave, file by file."""
    for folder in dict.fromkeys(folders):
        scale = named_scale(folder)
        for table in tables_of(folder, "summaries", option):
            for row in table_schemas.in_seconds(table).to_pylist():
                if row["columns"] is None and scale is not None:  # of a version that had the names only there
                    row["columns"] = scale.columns
                start, end, key = row["window_start"], row["window_end"], row["key"] or ""
                late = known.end is not None and (end is None or end > known.end)
                early = known.start is not None and (start is None or start < known.start)
                if not late and not early and (known.keys is None or key in known.keys):
                    yield Identity(folder, start, end, key, row["revision"]), row


def parts_of(
    folders: Iterable[str], rows: dict[Identity, Row], name: str = "coreset", option: str = "input"
) -> Iterator[tuple[Identity, pa.Table]]:
    """The rows of a table for each chosen window; a file is in memory at a time."""
    left = set(rows)
    for folder in dict.fromkeys(folders):
        for table in tables_of(folder, name, option):
            for identity, part in _runs(folder, table_schemas.in_seconds(table)):
                if identity in left:
                    left.remove(identity)
                    yield identity, part
    for identity in sorted(left, key=lambda i: (i.input, i.start or 0.0, i.key)):
        yield identity, table_schemas.SCHEMAS[name].empty_table()  # of a coreset, refused unless the window was empty


def _runs(folder: str, table: pa.Table) -> Iterator[tuple[Identity, pa.Table]]:
    """The rows of one window, key and revision, which are side by side."""
    if not len(table):
        return
    names = table_schemas.CORESET.names[:4]
    new = np.zeros(len(table), np.bool_)
    new[0] = True
    for name in names:
        codes = table.column(name).combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
        new[1:] |= codes[1:] != codes[:-1]
    edges = [*np.flatnonzero(new).tolist(), len(table)]
    for low, high in itertools.pairwise(edges):
        start, end, key, revision = (table.column(name)[low].as_py() for name in names)
        yield Identity(folder, start, end, key or "", revision), table.slice(low, high - low)


def common_scale(folders: Iterable[str], columns: Names = None) -> Scale | None:
    """What the columns had been scaled by, in the order of these names, if there are any.

    Raises:
      ValueError: the inputs differ in it.
    """
    scales = {read_scale(folder, columns) for folder in folders}
    if len(scales) > 1:
        raise ValueError(f"scale: must be the same in all inputs, got {len(scales)} different ones")
    return scales.pop()


def require_folder(output: str) -> None:
    """Raises ValueError for what is no folder's name, or a file's."""
    if not output:
        raise ValueError(f"output: must be the name of a folder, got {output!r}")
    if set("*?[") & set(output):
        raise ValueError(f"output: must not have *, ? or [ in its name, got {output!r}")
    if "://" not in output and os.path.exists(output) and not os.path.isdir(output):
        raise ValueError(f"output: must be a folder, got {output!r}, which is a file")


def require_apart(output: str, patterns: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
    """Holds an output folder against what is read: globs of files, and other runs' folders.

    Raises:
      ValueError: one of them is in the folder, or what is written there would be read.
    """
    require_folder(output)
    place = _plain(output)
    for path in folders:
        if _plain(path) == place:
            raise ValueError(f"output: must not be what is read, got {output!r}")
        if any(_within(place, _plain(path) + f"/{name}") for name in table_schemas.ALL_TABLES):
            raise ValueError(f"output: must not be in what is read, got {output!r} in {path!r}")
        if _within(_plain(path), place):
            raise ValueError(f"output: must not hold what is read, got {output!r} with {path!r}")
    for pattern in patterns:
        if _within(_plain(_root(pattern)), place):
            raise ValueError(f"output: must not hold what is read, got {output!r} with {pattern!r}")
        read = re.compile(FileSystem.translate_pattern(_plain(pattern)))
        written = (f"{place}/{name}/global-r1.{form}" for name in table_schemas.TABLES for form in tables.TABLE_FORMATS)
        if _within(place, _plain(pattern)) or any(read.match(path) for path in written):
            raise ValueError(f"output: must not be in what is read, got {output!r} in {pattern!r}")


def _root(pattern: str) -> str:
    """The folder below which all is that a glob may name."""
    return (re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0] or ("/" if pattern[:1] == "/" else "."))


def _plain(path: str) -> str:
    """One spelling of a folder's name."""
    path = path.removeprefix("file://")
    return path.rstrip("/") if "://" in path else os.path.realpath(path)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
