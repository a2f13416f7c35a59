"""Columns under their names: coordinates put in another order or out as columns of their own, and those of a sample,
in the user's units, with conditions on them."""
from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets.points.column_order import Names, listed, names_of_each, places_of
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.scale import Scale

Array = npt.NDArray[Any]
Condition = Any  # a function of columns, name -> (m,), to booleans (m,), or a pyarrow expression; None for none

TAKEN = ("id", "group", "group_label")  # columns of the coreset's table beside coordinates and kept ones


def by_name(table: pa.Table, columns: Names, wanted: Names, whose: str) -> pa.Table:
    """A table with its column `coordinates` in the order of the columns `wanted`.

    Args:
      columns, wanted: names as `summaries` has them; None, or one for a vector, where coordinates go by position.
      whose: what has the wanted ones, for messages.

    Raises:
      ValueError: other columns.
    """
    if not len(table):
        return table
    column = table.column("coordinates").combine_chunks()
    dim = len(column[0])
    places = places_of(names_of_each(columns, dim), names_of_each(wanted, dim), whose)
    if places is None:
        return table
    flat = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)[:, places]
    ends = np.arange(len(flat) + 1, dtype=np.int32) * dim
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(flat.ravel()))
    at = table.column_names.index("coordinates")
    return table.set_column(at, table.schema.field(at), lists)


def coordinate_names(columns: Names, dim: int, taken: Sequence[str] = ()) -> list[str]:
    """A name for each of `dim` coordinates: that of its column, else f0, f1, ...; `coordinates.NAME` where another
    column of the table has it."""
    names = names_of_each(columns, dim) or tuple(f"f{j}" for j in range(dim))
    return [f"coordinates.{name}" if name in taken else name for name in names]


def spread_out(table: pa.Table, columns: Names) -> pa.Table:
    """A table with a column for each coordinate in place of `coordinates`; null in rows that have none."""
    if "coordinates" not in table.column_names:
        return table
    at = table.column_names.index("coordinates")
    lists = table.column(at).combine_chunks()
    table = table.remove_column(at)
    valid = lists.is_valid().to_numpy(zero_copy_only=False)
    dim = len(lists[int(valid.argmax())]) if valid.any() else len(columns or ())
    values = lists.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(valid.sum(), dim)
    taken = set(table.column_names)
    for j, name in enumerate(coordinate_names(columns, dim, sorted(taken))):
        filled = np.zeros(len(lists))
        filled[valid] = values[:, j]
        table = table.add_column(at + j, name, pa.array(filled, mask=~valid))
    return table


def as_frame(table: pa.Table) -> Any:
    """The table as a DataFrame.

    Raises:
      ImportError: pandas is not installed.
    """
    if importlib.util.find_spec("pandas") is None:
        raise ImportError("pandas: must be installed for to_pandas (pip install pandas), got none")
    return table.to_pandas()


class SampleColumns:
    """The columns of a sample of m rows.

    Args:
      sample: in scaled units. names: of its coordinates. scale: what they were scaled by.

    Attributes:
      coordinates: names of the coordinates. columns: these, then the kept ones.
    """
    def __init__(self, sample: Coreset, names: Names, scale: Scale | None) -> None:
        self._sample, self._scale = sample, scale
        self.coordinates = tuple(coordinate_names(names, sample.dim, TAKEN))
        kept = () if sample.extras is None else tuple(name for name in sample.extras.column_names if name != "id")
        self.columns = self.coordinates + kept

    @functools.cached_property
    def _in_your_units(self) -> Array:
        points = self._sample.points.astype(np.float64)
        return points if self._scale is None else self._scale.undo(points)

    def values(self, column: str) -> Array:
        """(m,) numbers with NaN where there is none, or objects.

        Raises:
          ValueError: no such column.
        """
        if column in self.coordinates:
            return np.asarray(self._in_your_units[:, self.coordinates.index(column)])
        if column not in self.columns:
            raise ValueError(f"column: must be one of {listed(self.columns)}, got {column!r}")
        found = self._sample.extras.column(column)
        numeric = pa.types.is_integer(found.type) or pa.types.is_floating(found.type) or pa.types.is_boolean(found.type)
        if numeric or pa.types.is_decimal(found.type):
            return np.asarray(found.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
        return np.array(found.to_pylist(), object)

    def numbers(self, column: str) -> tuple[Array, Array]:
        """The numbers (m,) of a column, and where there are some, (m,) bool.

        Raises:
          ValueError: no such column, or one of something else.
        """
        found = self.values(column)
        if found.dtype == object:
            raise ValueError(f"column: must be of numbers, got {column!r}, which is not")
        known = np.isfinite(found)
        return np.where(known, found, 0.0), known

    def chosen(self, where: Condition) -> npt.NDArray[np.bool_]:
        """(m,) bool, for which points a condition holds; all of them for none.

        Raises:
          ValueError: no such column, or a function that gives no booleans.
        """
        m = len(self._sample)
        if where is None:
            return np.ones(m, np.bool_)
        if isinstance(where, pc.Expression):
            rows = pa.table({name: pa.array(self.values(name).tolist()) for name in self.columns})
            rows = rows.append_column("row number", pa.array(np.arange(m)))
            chosen = np.zeros(m, np.bool_)
            chosen[rows.filter(where).column("row number").to_numpy()] = True
            return chosen
        found = np.asarray(where(_Columns(self.values)))
        if found.shape != (m,) or found.dtype != np.bool_:
            raise ValueError(f"where: must give ({m},) booleans, got {found.dtype} of shape {found.shape}")
        return found


class _Columns(dict[str, Array]):
    """The columns by name, each made when it is asked for."""

    def __init__(self, made: Callable[[str], Array]) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, name: str) -> Array:
        return self._made(name)
