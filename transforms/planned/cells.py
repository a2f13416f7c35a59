"""Columns that a plan's kernel has read, as Arrow arrays."""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets.transforms.planned.texts import text_array
from beam_coresets.values import text

Array = npt.NDArray[Any]


def fits(kind: Any, target: Any, only_kept: bool) -> bool:
    """Whether a column of an Arrow type can be had as another: where the plain reader makes the same of it, cell by
    cell.

    Args:
      only_kept: the column is nothing but kept: numbers and truth values may be text in it.
    """
    if kind == target or pa.types.is_null(kind):
        return True
    if target == pa.float64():
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
    if target == pa.string():
        inexact = pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        return bool(pa.types.is_integer(kind) or (only_kept and inexact))
    return False


class PlannedColumns:
    """Rows that were read: of each column a number of 64 bits a row, which is the value, its bits, or its place.

    Attributes:
      rows: (n,) int64, which of those that were given; the others are odd.
    """

    def __init__(
        self, kinds: Mapping[str, Any], symbols: Mapping[str, Sequence[str]], data: Array, cells: Array, there: Array,
        rows: Array,
    ) -> None:
        self.rows = rows
        self._kinds, self._symbols, self._data, self._cells, self._there = kinds, symbols, data, cells, there
        self._numbers = {name: number for number, name in enumerate(kinds)}

    def column(self, name: str) -> Any:
        """A wanted field as the Arrow array (n,) of the plain reader's values; None if the schema has none."""
        if name not in self._numbers:
            return None
        n, number, kind = len(self.rows), self._numbers[name], self._kinds[name]
        cells, there = self._cells[number, :n], self._there[number, :n]
        if pa.types.is_null(kind):
            return pa.nulls(n)
        if name in self._symbols:
            numbers = pa.array(cells.astype(np.int32), mask=~there)
            return pa.array(self._symbols[name], pa.string()).take(numbers)
        if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
            return text_array(self._data, cells, there, kind)
        mask = None if there.all() else ~there
        if pa.types.is_floating(kind):
            bits = cells.view(np.float64) if kind == pa.float64() else cells.astype(np.uint32).view(np.float32)
            return pa.array(bits, kind, mask=mask, from_pandas=False)
        if pa.types.is_boolean(kind):
            return pa.array(cells.astype(bool), kind, mask=mask)
        cells = cells.astype(np.int32) if kind.bit_width == 32 else cells
        return pa.array(cells, mask=mask).view(kind)

    def fitted(self, name: str, target: Any) -> Any:
        """A wanted field as an Arrow array (n,) of a type that fits it; nulls if the schema has none."""
        column = self.column(name)
        if column is None or pa.types.is_null(column.type):
            return pa.nulls(len(self.rows), target)
        if pa.types.is_string(target) and pa.types.is_floating(column.type):
            return pa.array([text(cell) for cell in column.to_pylist()], pa.string())
        return column if column.type == target else column.cast(target, safe=False)
