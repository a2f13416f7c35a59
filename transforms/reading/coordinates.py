"""The coordinates of rows: scalar columns, or one column of vectors."""
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets._jit import fast_kernel
from beam_coresets.points.magnitude import LARGEST_COORDINATE
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.columns import Layout
from beam_coresets.transforms.reading.types.kinds import fits_float32, numbers, plain_column
from beam_coresets.values import portable

Array = npt.NDArray[Any]


class OneByOne(Sequence[Any]):
    """Rows as Python objects, each read when it is asked for.

    Args:
      read: of the number of a row.
      numbers: (n,) int64 of the rows.
    """

    def __init__(self, read: Callable[[int], Any], numbers: Array) -> None:
        self._read, self._numbers = read, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, i: Any) -> Any:
        return OneByOne(self._read, self._numbers[i]) if isinstance(i, slice) else self._read(int(self._numbers[i]))


def row_of(columns: Any, i: int) -> dict[str, Any]:
    """A row of a RecordBatch as Python objects."""
    row = columns.slice(i, 1)
    return {name: portable(plain_column(row.column(name)))[0] for name in row.schema.names}


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Some rows as they were read.

    Attributes:
      columns: Arrow RecordBatch with the layout's columns (those that `matrix` does not hold).
      rows: (n,) int64 row numbers in the file.
      source: path of the file.
      key: the file's 32-bit key for ids, or None to identify rows by their coordinates.
      matrix: (n, d) coordinates, where a format has them so.
      unparsable: column -> (n,) bool, the cells that were no numbers (null in `columns`).
      raw: the rows as text columns or Python objects, one each, for dead letters, where `columns` has lost something.
      shift: what a row number needs added to count from the beginning of a part of several files.
    """

    columns: Any
    rows: Array
    source: str
    key: int | None
    matrix: Array | None = None
    unparsable: dict[str, Array] = dataclasses.field(default_factory=dict)
    raw: Any = None
    shift: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, low: int, high: int) -> "Batch":
        """The rows from `low` to `high`."""
        if low == 0 and high >= len(self):
            return self
        raw = self.raw
        if raw is not None:
            raw = raw[low:high] if isinstance(raw, Sequence) else raw.slice(low, high - low)
        return Batch(
            self.columns.slice(low, high - low),
            self.rows[low:high],
            self.source,
            self.key,
            None if self.matrix is None else self.matrix[low:high],
            {name: mask[low:high] for name, mask in self.unparsable.items()},
            raw,
            self.shift,
        )

    def letter(self, i: int, column: str, reason: str) -> DeadLetter:
        """What becomes of row i for the sake of a column."""
        return DeadLetter(reason, column, self.source, f"row {self.rows[i]}", self.text(i))

    def text(self, i: int) -> str:
        """Row i as text."""
        if isinstance(self.raw, Sequence):
            return str(self.raw[i])[:_MAX_ROW_TEXT]
        values: Any = row_of(self.columns if self.raw is None else self.raw, i)
        if self.matrix is not None:
            values = [*self.matrix[i, :64].tolist(), *([values] if values else [])]
        return str(values)[:_MAX_ROW_TEXT]


class Faults:
    """Which rows are refused, and for which column's sake: the first that was reported."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.kind: Array | None = None
        self.kinds: list[tuple[str, str]] = []

    def add(self, mask: Any, column: str, reason: str) -> None:
        """Marks the rows of a mask (n,) as refused; a row keeps the first reason that is found."""
        if not mask.any():
            return
        if self.kind is None:
            self.kind = np.full(self.n, -1, np.int64)
        self.kind[mask & (self.kind < 0)] = len(self.kinds)
        self.kinds.append((column, reason))

    def add_cells(self, cells: "_Cells", column: str, bad: Array) -> None:
        """Tells apart what made the cells of `bad` (n,) unusable numbers."""
        self.add(bad & cells.unparsable, column, "unparsable")
        self.add(bad & cells.null, column, "null")
        self.add(bad & np.isnan(cells.values), column, "nan")
        self.add(bad, column, "infinite")

    def letters(self, pieces: Sequence[Batch]) -> list[DeadLetter]:
        """A dead letter for each refused row, in their order."""
        if self.kind is None:
            return []
        letters, low = [], 0
        for piece in pieces:
            for i in np.flatnonzero(self.kind[low : low + len(piece)] >= 0):
                column, reason = self.kinds[self.kind[low + i]]
                letters.append(piece.letter(int(i), column, reason))
            low += len(piece)
        return letters


class _Cells(NamedTuple):
    """One numeric column: values (n,), NaN where null or unparsable."""

    values: Array
    null: Array
    unparsable: Array


def cells_of(pieces: Sequence[Batch], name: str) -> _Cells:
    """One column of the pieces as float64, with what is null and what could not be read."""
    nulls = [np.asarray(p.columns.column(name).is_null()) for p in pieces]
    unparsable = [p.unparsable.get(name, np.zeros(len(p), bool)) for p in pieces]
    values = [numbers(p.columns.column(name)).astype(np.float64) for p in pieces]
    return _Cells(np.concatenate(values), np.concatenate(nulls), np.concatenate(unparsable))


def _scalar_points(pieces: Sequence[Batch], layout: Layout, faults: Faults) -> Array:
    """(n, d) from one column a coordinate, or from the matrix."""
    kinds = [np.dtype(p.matrix.dtype) for p in pieces if p.matrix is not None]
    small = all(np.can_cast(kind, np.float32) for kind in kinds) and all(
        fits_float32(p.columns.schema.field(name).type)
        for p in pieces if p.matrix is None for name in layout.coordinates
    )
    out = np.empty((faults.n, layout.dim), np.float32 if small else np.float64)
    low = 0
    for piece in pieces:
        target = out[low : low + len(piece)]
        if piece.matrix is not None:
            target[:] = piece.matrix
        else:
            for j, name in enumerate(layout.coordinates):
                target[:, j] = numbers(piece.columns.column(name))
        low += len(piece)
    if not np.isfinite(out).all():
        _explain_scalars(out, pieces, layout, faults)
    return out


def _explain_scalars(out: Array, pieces: Sequence[Batch], layout: Layout, faults: Faults) -> None:
    bad = ~np.isfinite(out)
    nothing = np.zeros(faults.n, bool)
    for j, name in enumerate(layout.coordinates):
        if not bad[:, j].any():
            continue
        if pieces[0].matrix is not None:
            faults.add_cells(_Cells(out[:, j], nothing, nothing), name, bad[:, j])
        else:
            faults.add_cells(cells_of(pieces, name), name, bad[:, j])


def _vector_points(pieces: Sequence[Batch], layout: Layout, faults: Faults) -> Array:
    """(n, d) from a column of lists; rows of another width are refused."""
    name = layout.coordinates[0]
    small = all(fits_float32(p.columns.schema.field(name).type) for p in pieces)
    out = np.empty((faults.n, layout.dim), np.float32 if small else np.float64)
    missing = np.zeros(out.shape, bool) if any(_has_null_elements(p.columns.column(name)) for p in pieces) else None
    widths = np.full(faults.n, layout.dim)
    null = np.zeros(faults.n, bool)
    unparsable = np.zeros(faults.n, bool)
    low = 0
    for piece in pieces:
        rows = slice(low, low + len(piece))
        column = piece.columns.column(name)
        null[rows] = np.asarray(column.is_null())
        unparsable[rows] = piece.unparsable.get(name, False)
        widths[rows] = _fill(column, out[rows], None if missing is None else missing[rows])
        low += len(piece)
    faults.add(unparsable, name, "unparsable")
    faults.add(null, name, "null")
    for width in np.unique(widths[~null & (widths != layout.dim)]):
        faults.add(~null & (widths == width), name, f"width: must be {layout.dim}, got {width}")
    if missing is not None:
        faults.add(missing.any(axis=1), name, "null")
    if not np.isfinite(out).all():
        faults.add(np.isnan(out).any(axis=1), name, "nan")
        faults.add(np.isinf(out).any(axis=1), name, "infinite")
    return out


def _has_null_elements(column: Any) -> bool:
    return bool(column.flatten().null_count)


def _whole_vectors(column: Any, dim: int) -> Array | None:
    """A list column as (n, dim) without a copy, if every row is there and has that width."""
    n = len(column)
    if column.null_count or not n:
        return None
    values = column.flatten()
    if values.null_count or len(values) != n * dim or values.type not in (pa.float32(), pa.float64()):
        return None
    if not pa.types.is_fixed_size_list(column.type) and (np.diff(column.offsets.to_numpy()) != dim).any():
        return None
    flat: Array = values.to_numpy().reshape(n, dim)
    return flat


def _fill(column: Any, out: Array, missing: Array | None) -> Array:
    """Writes the lists of the right width to `out` (n, d), zeros for the others; returns the widths (n,)."""
    n, dim = out.shape
    if pa.types.is_fixed_size_list(column.type) and column.null_count:
        column = column.cast(pa.large_list(column.type.value_type))
    if pa.types.is_fixed_size_list(column.type):
        widths = np.full(n, column.type.list_size)
        offsets, values = np.arange(n, dtype=np.int64) * column.type.list_size, column.flatten()
    else:
        widths = np.nan_to_num(pc.list_value_length(column).to_numpy(zero_copy_only=False)).astype(np.int64)
        offsets = column.offsets.to_numpy().astype(np.int64)[:n]
        values = column.values
    flat = numbers(values)
    good = np.flatnonzero(widths == dim)
    if len(good) == n and n and (np.diff(offsets) == dim).all():
        out[:] = flat[offsets[0] : offsets[0] + n * dim].reshape(n, dim)
        where: Any = slice(offsets[0], offsets[0] + n * dim)
    else:
        out[:] = 0
        where = (offsets[good, None] + np.arange(dim)).ravel()
        out[good] = flat[where].reshape(-1, dim)
    if missing is not None:
        missing[good] = np.asarray(values.is_null())[where].reshape(-1, dim)
    return widths


@fast_kernel
def _unit_rows(rows, out, norms):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        total = 0.0
        for j in range(rows.shape[1]):
            x = np.float64(rows[i, j])
            total += x * x
        norms[i] = np.sqrt(total)
        inverse = 1.0 / norms[i] if norms[i] > 0.0 else 0.0
        for j in range(rows.shape[1]):
            out[i, j] = np.float64(rows[i, j]) * inverse


def unit_rows(rows: Array) -> tuple[Array, Array]:
    """Rows (n, d) scaled to unit length as float32, sums in float64; and their lengths (n,), 0 for zero rows.

    A row with a NaN or an infinity gets an infinite or NaN length.
    """
    out = np.empty(rows.shape, np.float32)
    norms = np.empty(len(rows))
    _unit_rows(rows, out, norms)  # type: ignore[no-untyped-call]
    odd = np.flatnonzero(~((norms > 1e-140) & (norms < 1e140)))  # squares may have left the range
    if len(odd):
        with np.errstate(all="ignore"):
            some = rows[odd].astype(np.float64)
            scale = np.abs(some).max(axis=1)
            some /= np.where(scale == 0, 1, scale)[:, None]
            length = np.sqrt((some * some).sum(axis=1))
            out[odd] = some / np.where(length == 0, 1, length)[:, None]
            norms[odd] = length * scale
    return out, norms


def _refuse_large(points: Array, layout: Layout, faults: Faults) -> None:
    """Refuses rows with a coordinate whose squared distances could not be added up."""
    if points.dtype == np.float32:
        return
    with np.errstate(invalid="ignore"):
        large = np.isfinite(points) & (np.abs(points) > LARGEST_COORDINATE)
    reason = f"too large: must be at most {LARGEST_COORDINATE:g}"
    for j in np.flatnonzero(large.any(axis=0)).tolist():
        faults.add(large[:, j], layout.coordinates[0 if layout.options.vector_column else j], reason)


def points_of(pieces: Sequence[Batch], layout: Layout, faults: Faults) -> tuple[Array, Array]:
    """The rows of the block, and the coordinates as they were read (the same but for cosine)."""
    vector = layout.options.vector_column
    cosine = layout.options.metric == "cosine"
    if vector is not None and cosine and len(pieces) == 1 and pieces[0].key is not None:
        flat = _whole_vectors(pieces[0].columns.column(vector), layout.dim)
        if flat is not None:
            rows, norms = unit_rows(flat)
            if ((norms > 0) & (norms < np.inf)).all():
                return rows, flat
    read = _scalar_points if vector is None else _vector_points
    coordinates = read(pieces, layout, faults)
    if not cosine:
        _refuse_large(coordinates, layout, faults)
        return coordinates, coordinates
    rows, norms = unit_rows(coordinates)
    faults.add(norms == 0, vector or "", "zero vector")
    return rows, coordinates

_MAX_ROW_TEXT = 500
