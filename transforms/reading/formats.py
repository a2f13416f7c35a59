"""File formats to batches of rows: Parquet and .npy here, Avro in `avro_files`, the textual ones in `text_formats`.

A format can `probe` the first file (its Arrow schema and a sample) and `read` a part of a file. Files are opened
through Beam's filesystems, local ones directly.
"""
import contextlib
import dataclasses
import io
import itertools
import lzma
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_coresets import values
from beam_coresets.bounded import Careful
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.columns import Columns, Layout, SchemaError
from beam_coresets.transforms.reading.coordinates import Batch
from beam_coresets.transforms.reading.types import kinds
from beam_coresets.transforms.text.ranges import Counted, Slice
from beam_coresets.transforms.text.records import pieces, utf8_pieces

Array = npt.NDArray[Any]
Report = Callable[[DeadLetter], None]

SAMPLE_ROWS = 1000
MOST_COLUMNS = 1_000_000
_COMPRESSIONS = {".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd", ".xz": "xz"}
_MISFITS = (pa.ArrowException, TypeError, ValueError, OverflowError)


class FilePart(NamedTuple):
    """The rows of one file that begin in the byte range [start, stop), and the file's key for row ids.

    Attributes:
      row: the number of the first of them, where the range begins with it and ends before another one
        (`parts.cut_at_rows`); else None: the file is read whole, or its format can tell.
      rows: how many there are; None where they need not be told.
    """

    path: str
    start: int
    stop: int
    key: int
    row: int | None = None
    rows: int | None = None

    def check(self, row: int) -> None:
        """Raises ValueError if `row` is not the number behind the part's last one."""
        if self.row is not None and self.rows not in (None, row - self.row):
            got = row - self.row
            raise ValueError(f"rows: must be {self.rows:,} from byte {self.start:,} on, as they were, got {got:,}")


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of file is read.

    Attributes:
      label: its name in messages.
      suffixes: the file names it goes by, without compression.
      splittable: byte ranges of a file can be read alone.
      compressible: whole files may be compressed (.gz, .bz2, .zst, .xz).
      named: files say what their columns are called (CSV files do unless `Columns.header` is False).
      probe: (path, options) -> (Arrow schema, sample RecordBatch or None).
      read: (part, layout, report) -> batches; rows that can't even be parsed go to `report`.
      settle: (path, options) -> the options with what a look at the file tells of its dialect.
      dialect: the options of `TextParameters` that it goes by.
      count: (byte range, layout, whether a row begins with it) -> the rows from each place on where the first one of
        the range may begin; None: files are not cut so.
    """

    label: str
    suffixes: tuple[str, ...]
    splittable: bool
    compressible: bool
    probe: Callable[[str, Columns], tuple[Any, Any]]
    read: Callable[[FilePart, Layout, Report], Iterator[Batch]]
    settle: Callable[[str, Columns], Columns] = lambda path, options: options
    dialect: tuple[str, ...] = ()
    named: bool = True
    count: Callable[[FilePart, Layout, bool], list[Counted]] | None = None


def is_local(path: str) -> bool:
    """Whether a path is on this machine's own filesystem."""
    return FileSystems.get_scheme(path) is None


def suffix(path: str) -> tuple[str, str | None]:
    """The extension in lower case without compression, and the compression or None."""
    stem, last = os.path.splitext(path.lower())
    if last in _COMPRESSIONS:
        return os.path.splitext(stem)[1], _COMPRESSIONS[last]
    return last, None


class _Xz(io.RawIOBase):
    """What .xz holds, stream after stream; unlike `lzma.open` it refuses what stands behind them."""

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw, self._stream, self._held = raw, lzma.LZMADecompressor(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._stream.eof:
                self._held = self._stream.unused_data or self._raw.read(1 << 16)
                if not self._held:
                    return 0
                self._stream = lzma.LZMADecompressor()
            elif self._stream.needs_input and not self._held:
                self._held = self._raw.read(1 << 16)
                if not self._held:
                    raise EOFError("the .xz stream is not whole")
            given, self._held = self._held, b""
            text = self._stream.decompress(given, len(buffer))
            if text:
                buffer[: len(text)] = text
                return len(text)


def open_bytes(path: str) -> pa.NativeFile:
    """The file's decompressed bytes as a pyarrow stream, on any Beam filesystem."""
    if is_local(path):
        raw = pa.OSFile(path)
    else:
        raw = pa.PythonFile(FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED), mode="r")
    compression = suffix(path)[1]
    if compression == "xz":  # which Arrow has not
        return pa.PythonFile(io.BufferedReader(_Xz(raw)), mode="r")
    return raw if compression is None else pa.CompressedInputStream(raw, compression)


def whole_or_first(file: Any, part: FilePart) -> Any:
    """The file, up to the end of the part if that is the first of several."""
    return Slice(file, 0, part.stop) if part.row is not None and not part.start else file


def pieces_of(file: Any, part: FilePart, encoding: str | None) -> Iterator[bytes]:
    """The text of a part as UTF-8, some MB at a time."""
    if not part.start:
        return utf8_pieces(whole_or_first(file, part), encoding)
    return pieces(Slice(file, part.start, part.stop))


@contextlib.contextmanager
def naming(label: str, path: str) -> Iterator[None]:
    """Turns whatever a library says about a broken file into one ValueError that names the file."""
    try:
        yield
    except SchemaError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ValueError(f"input: must be a readable {label} file, got {path!r} ({said})") from error


def _open_parquet(path: str, plain: bool = False) -> pq.ParquetFile:
    """A Parquet file; `plain`: as its own types say, without what Arrow wrote of its types beside them."""
    footer = None
    if plain:
        with open_bytes(path) as file:
            footer = _without_arrow_types(file)
    if is_local(path):
        return pq.ParquetFile(path, memory_map=True, pre_buffer=False, metadata=footer)
    return pq.ParquetFile(open_bytes(path), pre_buffer=False, metadata=footer)


def _without_arrow_types(file: Any) -> Any:
    file.seek(file.size() - 8)
    length = int.from_bytes(file.read(4), "little")
    file.seek(file.size() - 8 - length)
    footer, end = file.read(length), length.to_bytes(4, "little") + b"PAR1"
    return pq.read_metadata(io.BytesIO(b"PAR1" + footer.replace(b"ARROW:schema", b"arrow.schema") + end))


def _probe_parquet(path: str, options: Columns) -> tuple[Any, Any]:
    with _open_parquet(path) as file:
        schema, sample = file.schema_arrow, None
        name = options.vector_column
        if name in schema.names and not pa.types.is_fixed_size_list(kinds.plain_type(schema.field(name).type)):
            batches = file.iter_batches(SAMPLE_ROWS, columns=[name], use_threads=False)
            sample = next(batches, None)
        return schema, sample


def _parquet_batches(file: Any, path: str, groups: list[int], layout: Layout) -> Iterator[Any]:
    """Record batches of some row groups."""
    names = list(layout.needed)
    options: dict[str, Any] = {"row_groups": groups, "use_threads": False}
    fixed = [name for name in names if kinds.has_fixed_lists(file.schema_arrow.field(name).type)]
    if not fixed:
        yield from file.iter_batches(layout.block_rows, columns=names, **options)
        return
    with _open_parquet(path, plain=True) as other:  # Arrow can't read lists of fixed size where some are missing
        lists = other.iter_batches(layout.block_rows, columns=fixed, **options)
        names = [name for name in names if name not in fixed]
        if names:
            yield from _side_by_side(lists, file.iter_batches(layout.block_rows, columns=names, **options))
        else:
            yield from lists


def _side_by_side(left: Iterator[Any], right: Iterator[Any]) -> Iterator[Any]:
    """Batches of the columns of both, which have the same rows, cut where either is cut."""
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        n = min(len(one), len(other))
        parts = (one.slice(0, n), other.slice(0, n))
        yield pa.record_batch({name: part.column(name) for part in parts for name in part.schema.names})
        one = one.slice(n) if n < len(one) else next(left, None)
        other = other.slice(n) if n < len(other) else next(right, None)


def _read_parquet(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """Row groups that begin in the part; a row's number counts the groups before it, from the footer.

    A group is taken to begin where as great a share of the file is over as of its rows: pyarrow ends the process when
    it is asked for a column's place in a footer that is not sound.
    """
    with _open_parquet(part.path) as file:
        layout.check(file.schema_arrow, part.path)
        footer = file.metadata
        rows = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
        first = [0, *itertools.accumulate(rows)]
        if min(rows, default=0) < 0:
            raise ValueError(f"rows: must be 0 or more in a row group, got {min(rows)}")
        size = _size_of(part.path)
        mine = [i for i, n in enumerate(rows) if n and part.start <= first[i] * size // first[-1] < part.stop]
        for _, run in itertools.groupby(enumerate(mine), lambda pair: pair[1] - pair[0]):
            numbers = [i for _, i in run]
            row = first[numbers[0]]
            for batch in _parquet_batches(file, part.path, numbers, layout):
                yield Batch(batch, np.arange(row, row + batch.num_rows), part.path, part.key)
                row += batch.num_rows
            if row != first[numbers[-1] + 1]:
                raise ValueError(f"rows: must be {first[numbers[-1] + 1]:,} before the next row group, got {row:,}")


class _Npy(NamedTuple):
    shape: tuple[int, int]
    dtype: Any
    fortran: bool
    offset: int


def _npy_header(file: Any, path: str) -> _Npy:
    """What a file says of its array, if the array is there."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    careful = Careful(file)
    version = np.lib.format.read_magic(careful)
    if version not in read:
        raise ValueError(f"version: must be 1.0 or 2.0, got {version}")
    shape, fortran, dtype = read[version](careful)
    if len(shape) != 2 or dtype.kind not in "iuf":
        raise ValueError(f"array: must be (n, d) numbers, got shape {shape} of {dtype}")
    if shape[1] > MOST_COLUMNS:
        raise ValueError(f"array: must have at most {MOST_COLUMNS:,} columns, got shape {shape} (is it transposed?)")
    offset, size = file.tell(), _size_of(path)
    if min(shape) < 0 or size - offset < shape[0] * shape[1] * dtype.itemsize:
        raise ValueError(f"array: must have all of its {shape} numbers in the file, got {size - offset:,} bytes")
    return _Npy(shape, dtype, fortran, offset)


def _size_of(path: str) -> int:
    return os.path.getsize(path) if is_local(path) else int(FileSystems.match([path])[0].metadata_list[0].size_in_bytes)


def _npy_schema(header: _Npy) -> pa.Schema:
    kind = pa.from_numpy_dtype(header.dtype.newbyteorder("="))
    return pa.schema([(f"f{j}", kind) for j in range(header.shape[1])])


def _probe_npy(path: str, options: Columns) -> tuple[Any, Any]:
    with open_bytes(path) as file:
        return _npy_schema(_npy_header(file, path)), None


def _npy_rows(part: FilePart, header: _Npy, size: int) -> Iterator[tuple[int, Array]]:
    """(first row number, rows) of the rows that begin in the part: views where the file is local."""
    n, d = header.shape
    width = d * header.dtype.itemsize
    low, high = (min(n, max(0, -(-(at - header.offset) // width))) for at in (part.start, part.stop))
    if is_local(part.path):
        order: Any = "F" if header.fortran else "C"
        mapped: Array = np.empty((0, d))
        if n and d:
            mapped = np.memmap(part.path, header.dtype, "r", header.offset, (n, d), order)
        for row in range(low, high, size):
            yield row, mapped[row : min(high, row + size)]
        return
    with open_bytes(part.path) as file:
        if header.fortran:
            whole = np.load(io.BytesIO(file.read()))
            for row in range(low, high, size):
                yield row, whole[row : min(high, row + size)]
            return
        file.seek(header.offset + low * width)
        for row in range(low, high, size):
            count = min(high, row + size) - row
            raw = file.read(count * width)
            yield row, np.frombuffer(raw, header.dtype, count * d).reshape(count, d)


def _read_npy(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """Rows that begin in the part; columns are called f0, f1, ..."""
    with open_bytes(part.path) as file:
        header = _npy_header(file, part.path)
    layout.check(_npy_schema(header), part.path)
    if header.shape[1] != len(layout.file_columns):
        wanted = len(layout.file_columns)
        raise SchemaError(f"columns: must be {wanted} like in the first file, got {header.shape[1]} in {part.path!r}")
    take = [int(name[1:]) for name in layout.coordinates]
    everything = take == list(range(header.shape[1]))
    roles = {name: int(name[1:]) for name in layout.options.roles}
    native = header.dtype.newbyteorder("=")
    for row, rows in _npy_rows(part, header, layout.block_rows):
        columns = {name: pa.array(np.ascontiguousarray(rows[:, j], native)) for name, j in roles.items()}
        batch = pa.record_batch(columns) if columns else pa.record_batch([], names=[])
        matrix = rows if everything else rows[:, take]
        yield Batch(batch, np.arange(row, row + len(rows)), part.path, part.key, matrix=matrix)


def python_batch(records: list[Any], layout: Layout, rows: Array, source: str, key: int | None) -> Batch:
    """A batch from dictionaries, one array a column; what a text column is only to keep becomes text, or JSON."""
    columns, unparsable = {}, {}
    only_kept = set(layout.options.keep_columns).difference(layout.used)
    for field in layout.schema:
        cells = [record.get(field.name) for record in records]
        if field.name in only_kept and pa.types.is_string(field.type):
            cells = [values.text(cell) for cell in cells]
        columns[field.name], bad = python_column(cells, field.type)
        if bad is not None:
            unparsable[field.name] = bad
    return Batch(pa.record_batch(columns), rows, source, key, unparsable=unparsable, raw=records)


def python_column(cells: list[Any], kind: Any) -> tuple[Any, Array | None]:
    """Python objects as an Arrow array; a cell that does not fit is null in it and marked in the mask (or None)."""
    truths = not {bool, np.bool_}.isdisjoint(map(type, cells))
    cut = pa.types.is_integer(kind) and any(isinstance(cell, (float, np.floating)) for cell in cells)
    if not cut and (not truths or pa.types.is_boolean(kind)):  # Arrow takes True for 1, and 10.5 for 10
        with contextlib.suppress(*_MISFITS):
            return pa.array(cells, kind), None
    fitting = [_cell(cell, kind) for cell in cells]
    bad = np.array([cell is not None and fit is None for cell, fit in zip(cells, fitting, strict=True)])
    return pa.array(fitting, kind), bad


def _cell(value: Any, kind: Any) -> Any:
    if isinstance(value, (bool, np.bool_)) and not pa.types.is_boolean(kind):
        return None
    if pa.types.is_string(kind):
        return None if isinstance(value, (dict, list, float)) else values.label(value)
    if pa.types.is_floating(kind) and isinstance(value, int):
        with contextlib.suppress(OverflowError):
            return float(value)
        return None
    if pa.types.is_integer(kind) and isinstance(value, (float, np.floating)):
        if not value.is_integer():
            return None
        value = int(value)
    with contextlib.suppress(*_MISFITS):
        return None if pa.array([value], kind)[0].as_py() is None else value
    return None


PARQUET = Format("Parquet", (".parquet", ".pq"), True, False, _probe_parquet, _read_parquet)
NPY = Format(".npy", (".npy",), True, False, _probe_npy, _read_npy, named=False)
