"""Which files there are, their format and columns, and how they are cut into parts."""
import dataclasses
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from apache_beam.io.filesystem import FileMetadata

from beam_coresets import hashing
from beam_coresets.transforms.reading import folder_keys
from beam_coresets.transforms.reading.avro_files import AVRO
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError, resolve
from beam_coresets.transforms.reading.finding.paths import Patterns, find
from beam_coresets.transforms.reading.folder_keys import HasPath
from beam_coresets.transforms.reading.formats import NPY, PARQUET, FilePart, Format, naming, suffix
from beam_coresets.transforms.reading.json_lines import JSON_LINES
from beam_coresets.transforms.reading.text_formats import CSV, TEXT
from beam_coresets.transforms.text.dialects import dialect_of, notes_of
from beam_coresets.transforms.text.ranges import END, Counted

FILE_FORMATS = {"parquet": PARQUET, "csv": CSV, "text": TEXT, "avro": AVRO, "jsonl": JSON_LINES, "npy": NPY}
MIN_PART_BYTES = 64 << 20
MAX_PARTS = 512
LANES = 4

Absent = Callable[[Any, Columns], Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """What one task reads: byte ranges of files, in order; `index` is the `part` of its blocks' spans."""

    index: int
    files: tuple[FilePart, ...]


def match(patterns: Patterns) -> list[FileMetadata]:
    """The files of one or several paths, folders and globs, each once, sorted by path; empty ones are left out.

    Raises:
      ValueError: a glob matches nothing.
    """
    return find(patterns).files


def _relative(paths: Sequence[str]) -> list[str]:
    """Paths from the longest folder that all have in common."""
    parts = [path.replace(os.sep, "/").split("/") for path in paths]
    common = 0
    while all(len(p) > common + 1 for p in parts) and len({p[common] for p in parts}) == 1:
        common += 1
    return ["/".join(p[common:]) for p in parts]


def _key(name: str, salt: int) -> int:
    raw = np.frombuffer(name.encode(), np.uint8).copy()
    return int(hashing.hash_bytes(np.array([0, len(raw)], np.int64), raw, salt)[0]) >> 32


def row_names(files: Sequence[FileMetadata]) -> dict[int, str]:
    """The 32-bit key of each file -> its path from the files' common folder.

    A row of file `key` has the id `key << 32 | row number`, printed as "path#row". A key that is taken is drawn again,
    in the order of the paths.
    """
    names: dict[int, str] = {}
    for name in sorted(_relative([file.path for file in files])):
        salt = 0
        while (key := _key(name, salt)) in names:
            salt += 1
        names[key] = name
    return names


def plan_parts(files: Sequence[FileMetadata], splittable: bool, part_bytes: int = MIN_PART_BYTES) -> list[Part]:
    """Cuts files into parts of about max(`part_bytes`, total / 512) bytes, in the order of their paths.

    Small files share a part. Those of 1.5 times as much and more are cut into equal byte ranges if `splittable`, but
    compressed ones: a row belongs to the range in which it begins (of Parquet with its row group, of Avro with its
    block), so a part may turn out empty. CSV, text, JSON lines and Avro have to be cut by `cut_at_rows` as well.
    """
    files = sorted(files, key=lambda file: file.path)
    target = max(part_bytes, sum(file.size_in_bytes for file in files) // MAX_PARTS)
    keys = {name: key for key, name in row_names(files).items()}
    groups: list[list[FilePart]] = [[]]
    for file, name in zip(files, _relative([file.path for file in files]), strict=True):
        size = file.size_in_bytes
        if sum(piece.stop - piece.start for piece in groups[-1]) + size > 1.5 * target and groups[-1]:
            groups.append([])
        pieces = max(1, round(size / target)) if splittable and suffix(file.path)[1] is None else 1
        bounds = [size * i // pieces for i in range(pieces + 1)]
        cut = [FilePart(file.path, low, high, keys[name]) for low, high in itertools.pairwise(bounds)]
        groups[-1].append(cut[0])
        groups.extend([piece] for piece in cut[1:])
        if sum(piece.stop - piece.start for piece in groups[-1]) >= target or pieces > 1:
            groups.append([])
    return [Part(i, tuple(group)) for i, group in enumerate(group for group in groups if group)]


def in_lanes(parts: Sequence[Part], lanes: int = LANES) -> list[Part]:
    """The parts in an order that deals contiguous runs to 1, 2, ... `lanes` workers taking turns.

    Neighbouring parts merge as soon as both are there: a worker that gets every other part holds on to all of them.
    """
    bounds = [len(parts) * lane // lanes for lane in range(lanes + 1)]
    runs = [parts[low:high] for low, high in itertools.pairwise(bounds)]
    return [part for step in itertools.zip_longest(*sorted(runs, key=len, reverse=True)) for part in step if part]


def find_format(files: Sequence[FileMetadata], name: str | None = None) -> Format:
    """The format called `name`, or the one that the files' extensions agree on.

    Raises:
      ValueError: unknown or different extensions, or a compressed file of a format that has its own compression.
    """
    if name is not None and name not in FILE_FORMATS:
        raise ValueError(f"format: must be one of {sorted(FILE_FORMATS)}, got {name!r}")
    found: dict[str, str] = {} if name is None else {name: ""}
    for file in files:
        ending, compression = suffix(file.path)
        names = [key for key, f in FILE_FORMATS.items() if ending in f.suffixes] if name is None else [name]
        if not names:
            known = sorted(FILE_FORMATS)
            raise ValueError(f"format: must be given, one of {known}, for files like {file.path!r}, got none")
        if compression is not None and not FILE_FORMATS[names[0]].compressible:
            raise ValueError(f"input: must not be compressed as a whole, got {file.path!r}")
        found.setdefault(names[0], file.path)
    if len(found) > 1:
        raise ValueError(f"input: must be files of one format, got {found}")
    return FILE_FORMATS[next(iter(found))]


def listed(
    files: Sequence[FileMetadata], format: str | None, part_bytes: int, count: bool = False
) -> tuple[str, list[Part]]:
    """The name of the files' format, and the parts they are read in.

    Args:
      count: files whose rows must be counted to cut them are cut, too, for `cut_at_rows`.

    Raises:
      ValueError: no common format.
    """
    form = find_format(files, format)
    name = next(name for name, each in FILE_FORMATS.items() if each is form)
    return name, plan_parts(files, form.splittable or (count and form.count is not None), part_bytes)


def files_to_count(parts: Sequence[Part], form: Format) -> list[list[Part]]:
    """The parts of each file that is cut and whose rows have to be counted."""
    if form.count is None:
        return []
    runs = itertools.groupby((part for part in parts if len(part.files) == 1), lambda part: part.files[0].path)
    return [run for _, found in runs if len(run := list(found)) > 1]


def counted(piece: FilePart, form: Format, layout: Layout, exact: bool = False) -> list[Counted]:
    """What `form.count` finds in a byte range.

    Raises:
      ValueError: the file can't be read.
    """
    if form.count is None:
        raise TypeError(f"format: must be one whose rows can be counted, got {form.label}")
    with naming(form.label, piece.path):
        return form.count(piece, layout, exact)


def cut_at_rows(
    parts: Sequence[Part], form: Format, layout: Layout, found: Mapping[int, Sequence[Counted]]
) -> Iterator[Part]:
    """All parts of one file, whose byte ranges now begin with a row and end before one; those without a row are empty.

    Args:
      found: index of a part -> what `counted` finds in it; what does not go on where the part before it ends, or is not
        there, is counted here.

    Raises:
      ValueError: the file can't be read.
    """
    at, row = 0, 0
    for part in parts:
        (piece,) = part.files
        if at >= piece.stop:
            yield dataclasses.replace(part, files=())
        elif part is parts[-1]:
            yield dataclasses.replace(part, files=(piece._replace(start=at, stop=END, row=row),))
        else:
            known = next((each for each in found.get(part.index, ()) if each.start == at), None)
            here = known or counted(piece._replace(start=at), form, layout, exact=True)[0]
            rows = None if here.next == END else here.rows
            yield dataclasses.replace(part, files=(piece._replace(start=at, stop=here.next, row=row, rows=rows),))
            at, row = here.next, row + here.rows


def probe(files: Sequence[FileMetadata], form: Format, columns: Columns) -> Layout:
    """The layout that all parts are read with, from the first file that is not empty."""
    first = min(files, key=lambda file: (not file.size_in_bytes, file.path)).path
    columns.check_goes_with(form.dialect, form.label)
    return layout_of(first, form, columns, files, around=folder_keys.alike(files))


def notes_about(layout: Layout, asked: Columns, path: str) -> tuple[str, ...]:
    """What a look at a file has told, and which columns are left out, in words."""
    return (*notes_of(asked, layout.options, path), *layout.notes)


def layout_of(
    path: str, form: Format, columns: Columns, files: Iterable[HasPath] = (), absent: Absent | None = None,
    around: Collection[str] = (),
) -> Layout:  # fmt: skip
    """The layout that a file suggests, and those that are read with it.

    Args:
      absent: gives types to columns that the file does not say anything of.
      around: keys that the folders of all files say alike; a file's own column of that name is one like others.

    Raises:
      ValueError: it can't be read, or lacks a column.
    """
    keys = folder_keys.keys_of(path)
    with naming(form.label, path):
        columns = dataclasses.replace(columns, **dialect_of(form.settle(path, folder_keys.without(columns, keys))))
        own, sample = form.probe(path, columns)
    schema = folder_keys.with_keys(own, columns, path, files)
    of_the_files = tuple(key for key in keys if key in around and key in own.names)
    told = [key for key in keys if key not in of_the_files]
    layout = resolve(schema if absent is None else absent(schema, columns), columns, path, sample, told)
    said = tuple(key for key in keys if key in layout.needed and key not in own.names)
    if set(layout.coordinates) <= set(said):
        raise SchemaError(f"columns: must name a column of the files, got only keys of the folders of {path!r}")
    named = form.named and columns.header is not False
    there = tuple(name for name in layout.file_columns if name not in said)
    return dataclasses.replace(layout, named=named, keys=said, own=of_the_files, file_columns=there)
