"""Rows of CSV to columns, where they are as plain as can be: no quotes, and numbers where numbers are wanted.

A piece of text is read as a whole or not at all: with one cell that is anything else, it is left to the plain reader.
"""
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets._jit import kernel
from beam_coresets.transforms.planned.decimals import MOST_DIGITS, nearest
from beam_coresets.transforms.planned.json_objects import FRACTION, LARGE, WHOLE, read_number
from beam_coresets.transforms.planned.texts import MOST_BYTES, is_utf8, text_array

Array = npt.NDArray[Any]

_SKIP, _TEXT, _NUMBER = range(3)


@kernel
def _rows(data, uses, delimiter, quote, comment, numbers, places, there):  # type: ignore[no-untyped-def]
    """Reads whole lines, cell by cell as `uses` (width,) says; how many rows, -1 if something in them is odd."""
    width = len(uses)
    stop = len(data)
    row = 0
    i = 0
    while i < stop:
        if data[i] == 10 or data[i] == 13:
            i += 1
            continue
        if data[i] == comment:
            return -1
        column = 0
        for cell in range(width):
            begin = i
            if uses[cell] == _NUMBER:
                if i < stop and data[i] != delimiter and data[i] != 10 and data[i] != 13:
                    negative = data[i] == 45
                    if negative:
                        i += 1
                    digits = np.uint64(0)
                    first = i
                    while i < stop and 48 <= data[i] <= 57:
                        digits = digits * np.uint64(10) + np.uint64(data[i] - 48)
                        i += 1
                    count = i - first
                    power = 0
                    if count == 0:
                        return -1
                    if i < stop and data[i] == 46:
                        i += 1
                        first = i
                        while i < stop and 48 <= data[i] <= 57:
                            digits = digits * np.uint64(10) + np.uint64(data[i] - 48)
                            i += 1
                        power = first - i
                        if power == 0:
                            return -1
                    if count - power <= MOST_DIGITS and (i >= stop or data[i] | 32 != 101):
                        number = nearest(digits, power)
                        numbers[column, row] = -number if negative else number
                    else:  # many digits, some of which may be leading zeros, or an exponent
                        i, kind, number = read_number(data, begin, stop)
                        if kind != FRACTION and kind != WHOLE and kind != LARGE:
                            return -1
                        numbers[column, row] = number
                there[column, row] = i > begin
                column += 1
            else:
                ascii_only = True
                while i < stop and data[i] != delimiter and data[i] != 10 and data[i] != 13:
                    if data[i] == quote:
                        return -1
                    if data[i] >= 128:
                        ascii_only = False
                    i += 1
                if uses[cell] == _TEXT:
                    if not ascii_only and not is_utf8(data, begin, i):
                        return -1
                    places[column, row] = begin << 32 | (i - begin)
                    there[column, row] = i > begin
                    column += 1
            if cell < width - 1:
                if i >= stop or data[i] != delimiter:
                    return -1
                i += 1
            elif i < stop and data[i] != 10 and data[i] != 13:
                return -1
        row += 1
    return row


class CsvPlan(NamedTuple):
    """How rows of CSV are read.

    Attributes:
      names: of the columns to read, in the order of their cells.
      uses: (width,) int64, what each cell is for.
      signs: delimiter, quote and comment as numbers of bytes, -1 for none.
    """

    names: tuple[str, ...]
    uses: Array
    signs: tuple[int, int, int]

    def read(self, text: Any) -> Any:
        """Whole lines as an Arrow RecordBatch of the columns, float64 or text, empty cells null; None where one of
        them is odd."""
        data = np.frombuffer(text, np.uint8)
        if not len(data) or len(data) > MOST_BYTES:
            return None
        room = int(np.count_nonzero(data == 10)) + int(np.count_nonzero(data == 13)) + 1
        k = len(self.names)
        numbers, places = np.empty((k, room)), np.empty((k, room), np.int64)
        there = np.empty((k, room), np.bool_)
        n = _rows(data, self.uses, *self.signs, numbers, places, there)  # type: ignore[no-untyped-call]
        if n <= 0:
            return None
        columns = {}
        wanted = self.uses[self.uses != _SKIP].tolist()
        for j, (name, use) in enumerate(zip(self.names, wanted, strict=True)):
            held = there[j, :n]
            if use == _TEXT:
                columns[name] = text_array(data, places[j, :n], held)
            else:
                columns[name] = pa.array(numbers[j, :n], mask=None if held.all() else ~held, from_pandas=False)
        return pa.record_batch(columns)


def plan_of(
    width: int, places: Mapping[str, int], numbers: Mapping[str, bool], delimiter: str, quote: str | None,
    comment: str | None,
) -> CsvPlan:  # fmt: skip
    """The plan for rows of `width` cells.

    Args:
      places: names of columns -> where their cell stands.
      numbers: names of columns -> whether it is to be a number; else it is text.
    """
    uses = np.full(width, _SKIP, np.int64)
    for name, place in places.items():
        uses[place] = _NUMBER if numbers[name] else _TEXT
    signs = tuple(-1 if each is None else ord(each) for each in (delimiter, quote, comment))
    return CsvPlan(tuple(sorted(places, key=places.__getitem__)), uses, signs)  # type: ignore[arg-type]
