"""JSON objects to columns: the fields that are wanted by name, whatever their order, one pass over the bytes.

A plan says which fields are wanted and which kinds of values each may have. An object is odd that has another kind
in one of them, a wanted field twice, an escape in a text, a number whose double is not told at once, or anything that
is no JSON or that Python reads otherwise.
"""
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets._jit import kernel
from beam_coresets.transforms.planned.decimals import MOST_DIGITS, nearest
from beam_coresets.transforms.planned.texts import is_utf8, joined, text_array

Array = npt.NDArray[Any]

NULL, TEXT, WHOLE, LARGE, FRACTION, TRUTH, _UNTOLD = range(7)
"""Kinds of values: nothing or null; text; an integer below 2 ** 53, and a larger one; a number with a point or an
exponent; true or false."""
_ESCAPED = re.compile(r'[\x00-\x1f"\\\ud800-\udfff]')
_ODD = -1
_EXACT = 2**53
_DEEPEST = 60  # of a value that nobody wants
_GUESSES = 1024
_FNV, _PRIME = 0xCBF29CE484222325, 0x100000001B3


@dataclasses.dataclass(frozen=True, eq=False)
class JsonPlan:
    """Which fields are read of objects.

    Attributes:
      numbers: name of a field -> its number.
      takes: (k,) int64, the kinds that each field may have, as bits.
      names, bounds: the names as UTF-8, (b,) uint8, and where each begins and the last ends, (k + 1,) int64.
      table: (2 ** m,) int64 numbers of fields by hashes of their names, -1 where none is.
    """

    numbers: Mapping[str, int]
    takes: Array
    names: Array
    bounds: Array
    table: Array


def plan_of(fields: Mapping[str, Sequence[int]]) -> JsonPlan | None:
    """The plan for fields by name, each with the kinds that it may have; None where a name needs escapes."""
    if _ESCAPED.search("".join(fields)):
        return None
    names, bounds = joined([name.encode() for name in fields]) or (np.empty(0), np.empty(0))
    table = np.full(1 << (4 * len(fields)).bit_length(), -1, np.int64)
    for number in range(len(fields)):
        slot = int(_hash(names, bounds[number], bounds[number + 1])) & (len(table) - 1)  # type: ignore[no-untyped-call]
        while table[slot] >= 0:
            slot = (slot + 1) & (len(table) - 1)
        table[slot] = number
    takes = np.array([sum(1 << kind for kind in kinds) for kinds in fields.values()], np.int64)
    return JsonPlan({name: number for number, name in enumerate(fields)}, takes, names, bounds, table)


@kernel
def _hash(data, begin, end):  # type: ignore[no-untyped-def]
    found = np.uint64(_FNV)
    for i in range(begin, end):
        found = (found ^ np.uint64(data[i])) * np.uint64(_PRIME)
    return np.int64(found >> np.uint64(8))


@kernel
def _is_name(data, begin, end, number, names, bounds):  # type: ignore[no-untyped-def]
    low = bounds[number]
    if end - begin != bounds[number + 1] - low:
        return False
    for i in range(end - begin):  # noqa: SIM110  (compiled)
        if data[begin + i] != names[low + i]:
            return False
    return True


@kernel
def _field(data, begin, end, names, bounds, table):  # type: ignore[no-untyped-def]
    """The number of the field that is called data[begin:end], -1 if nobody wants it."""
    slot = _hash(data, begin, end) & (len(table) - 1)
    while table[slot] >= 0:
        if _is_name(data, begin, end, table[slot], names, bounds):
            return table[slot]
        slot = (slot + 1) & (len(table) - 1)
    return np.int64(-1)


@kernel
def _blank(data, i, stop):  # type: ignore[no-untyped-def]
    while i < stop and (data[i] == 32 or data[i] == 10 or data[i] == 13 or data[i] == 9):
        i += 1
    return i


@kernel
def _text_end(data, i, stop):  # type: ignore[no-untyped-def]
    """Where the text that begins at i has its closing quote; -1 if it is odd."""
    begin = i
    ascii_only = True
    while i < stop:
        byte = data[i]
        if byte == 34:
            return i if ascii_only or is_utf8(data, begin, i) else -1
        if byte < 32 or byte == 92:
            return -1
        if byte >= 128:
            ascii_only = False
        i += 1
    return -1


@kernel
def read_number(data, i, stop):  # type: ignore[no-untyped-def]
    """(where the number that begins at i ends, its kind, its double); the kind is odd if it is none."""
    negative = data[i] == 45
    if negative:
        i += 1
    digits = np.uint64(0)
    count = 0
    power = np.int64(0)
    whole = True
    if i < stop and data[i] == 48:
        i += 1
    else:
        while i < stop and 48 <= data[i] <= 57:
            digits = digits * np.uint64(10) + np.uint64(data[i] - 48)
            count += 1
            i += 1
        if not count:
            return i, _ODD, 0.0
    if i < stop and data[i] == 46:
        whole = False
        i += 1
        first = i
        while i < stop and 48 <= data[i] <= 57:
            digits = digits * np.uint64(10) + np.uint64(data[i] - 48)
            if digits:
                count += 1
            i += 1
        if i == first:
            return i, _ODD, 0.0
        power = first - i
    if i < stop and (data[i] == 101 or data[i] == 69):
        whole = False
        i += 1
        down = i < stop and data[i] == 45
        if i < stop and (data[i] == 45 or data[i] == 43):
            i += 1
        first = i
        exponent = np.int64(0)
        while i < stop and 48 <= data[i] <= 57:
            if exponent < 100_000:
                exponent = exponent * 10 + np.int64(data[i] - 48)
            i += 1
        if i == first:
            return i, _ODD, 0.0
        power += -exponent if down else exponent
    if count > MOST_DIGITS:
        return i, _UNTOLD, 0.0
    if whole:
        if negative and not digits:  # an integer, so that it is not less than zero
            return i, _UNTOLD, 0.0
        found = np.float64(digits)
        kind = WHOLE if digits < np.uint64(_EXACT) else LARGE
    else:
        found = nearest(digits, power)
        kind = _UNTOLD if np.isnan(found) else FRACTION
    return i, kind, -found if negative else found


@kernel
def _word(data, i, stop):  # type: ignore[no-untyped-def]
    """(where the word at i ends, its kind): true, false or null; the kind is odd if it is none of them."""
    if stop - i >= 4:
        if data[i] == 116 and data[i + 1] == 114 and data[i + 2] == 117 and data[i + 3] == 101:
            return i + 4, TRUTH
        if data[i] == 110 and data[i + 1] == 117 and data[i + 2] == 108 and data[i + 3] == 108:
            return i + 4, NULL
        if stop - i >= 5 and data[i] == 102 and data[i + 1] == 97 and data[i + 2] == 108 and data[i + 3] == 115:
            return (i + 5, TRUTH) if data[i + 4] == 101 else (i, _ODD)
    return i, _ODD


@kernel
def _scalar_end(data, i, stop):  # type: ignore[no-untyped-def]
    """Where the text, number or word at i ends; -1 if it is odd."""
    if data[i] == 34:
        end = _text_end(data, i + 1, stop)
        return end + 1 if end >= 0 else -1
    if data[i] == 45 or 48 <= data[i] <= 57:
        end, kind, _ = read_number(data, i, stop)
    else:
        end, kind = _word(data, i, stop)
    return -1 if kind == _ODD else end


@kernel
def _skip(data, i, stop):  # type: ignore[no-untyped-def]
    """Where the array or object at i ends; -1 if it is odd. One bit a level says which of them is an object."""
    objects = np.uint64(0)
    depth = 0
    while i < stop:  # at a value
        if data[i] == 123 or data[i] == 91:
            if depth == _DEEPEST:
                return -1
            objects = objects << np.uint64(1) | np.uint64(data[i] == 123)
            depth += 1
            i = _blank(data, i + 1, stop)
            if i >= stop:
                return -1
            whole = data[i] == (125 if objects & np.uint64(1) else 93)
        else:
            i = _scalar_end(data, i, stop)
            if i < 0:
                return -1
            i = _blank(data, i, stop)
            whole = True
        while whole:  # behind a value, or at the end of an empty one
            if i >= stop:
                return -1
            if data[i] == 44:
                i = _blank(data, i + 1, stop)
                break
            if data[i] != (125 if objects & np.uint64(1) else 93):
                return -1
            depth -= 1
            if depth == 0:
                return i + 1
            objects >>= np.uint64(1)
            i = _blank(data, i + 1, stop)
        if objects & np.uint64(1):  # a name
            if i >= stop or data[i] != 34:
                return -1
            i = _text_end(data, i + 1, stop)
            if i < 0:
                return -1
            i = _blank(data, i + 1, stop)
            if i >= stop or data[i] != 58:
                return -1
            i = _blank(data, i + 1, stop)
    return -1


@kernel
def _each(data, starts, stops, takes, names, bounds, table, kinds, places, doubles, rows):  # type: ignore[no-untyped-def]
    """Reads the objects that are not odd, one behind the other; how many, which ones to `rows`.

    Most objects have their fields in the order of the one before, which saves looking for their names.
    """
    guesses = np.full(_GUESSES, -1, np.int64)
    last = np.full(len(takes), -1, np.int64)  # the object that has had a field
    row = 0
    for number in range(len(starts)):
        stop = stops[number]
        i = _blank(data, starts[number], stop)
        if i >= stop or data[i] != 123:
            continue
        whole = False
        found = 0
        at = 0
        while True:  # behind { or a comma; left as soon as something is odd
            i += 1
            if i < stop and data[i] <= 32:
                i = _blank(data, i, stop)
            if i >= stop or data[i] != 34:
                break
            begin = i + 1
            end = begin
            field = guesses[at] if at < _GUESSES else np.int64(-1)
            if field >= 0:
                low = bounds[field]
                end = begin + bounds[field + 1] - low
                if end < stop and data[end] == 34:
                    for j in range(end - begin):
                        if data[begin + j] != names[low + j]:
                            field = np.int64(-1)
                            break
                else:
                    field = np.int64(-1)
            if field < 0:
                end = _text_end(data, begin, stop)
                if end < 0:
                    break
                field = _field(data, begin, end, names, bounds, table)
                if at < _GUESSES:
                    guesses[at] = field
            at += 1
            i = end + 1
            if i < stop and data[i] <= 32:
                i = _blank(data, i, stop)
            if i >= stop or data[i] != 58:
                break
            i += 1
            if i < stop and data[i] <= 32:
                i = _blank(data, i, stop)
            if i >= stop:
                break
            begin = i
            double = 0.0
            if data[i] == 34:
                begin = i + 1
                end = _text_end(data, begin, stop)
                if end < 0:
                    break
                kind = TEXT
                i = end + 1
            elif data[i] == 45 or 48 <= data[i] <= 57:
                i, kind, double = read_number(data, i, stop)
                end = i
            elif field < 0 and (data[i] == 123 or data[i] == 91):
                i = _skip(data, i, stop)
                kind = _ODD if i < 0 else NULL
            else:
                i, kind = _word(data, i, stop)
                end = i
            if kind == _ODD:
                break
            if field >= 0:
                if last[field] == number or not takes[field] >> kind & 1:
                    break
                last[field] = number
                kinds[field, row] = kind
                places[field, row] = begin << 32 | (end - begin)
                doubles[field, row] = double
                found += 1
            if i < stop and data[i] <= 32:
                i = _blank(data, i, stop)
            if i >= stop:
                break
            if data[i] == 125:
                whole = True
                break
            if data[i] != 44:
                break
        if not whole or _blank(data, i + 1, stop) != stop:
            continue
        if found < len(takes):
            for field in range(len(takes)):
                if last[field] != number:
                    kinds[field, row] = NULL
        rows[row] = number
        row += 1
    return row


class JsonObjects:
    """JsonObjects that were read.

    Attributes:
      rows: (n,) int64, which of those that were given; the others are odd.
    """

    def __init__(self, plan: JsonPlan, data: Array, kinds: Array, places: Array, doubles: Array, rows: Array) -> None:
        self.rows = rows
        self._plan, self._data, self._kinds, self._places, self._doubles = plan, data, kinds, places, doubles

    def kinds(self, name: str) -> Array:
        """(n,) uint8 kinds of a field's values."""
        kinds: Array = self._kinds[self._plan.numbers[name], : len(self.rows)]
        return kinds

    def doubles(self, name: str) -> Array:
        """(n,) float64, meaningful where the kind is one of numbers."""
        doubles: Array = self._doubles[self._plan.numbers[name], : len(self.rows)]
        return doubles

    def numbers(self, name: str) -> Any:
        """A field of numbers as float64 in Arrow, null where it has none."""
        null = self.kinds(name) == NULL
        return pa.array(self.doubles(name), mask=null if null.any() else None, from_pandas=False)

    def texts(self, name: str) -> Any:
        """A field's values as text in Arrow: texts themselves, others as they are written; null where it has none."""
        return text_array(self._data, self._places[self._plan.numbers[name], : len(self.rows)], self.kinds(name) > NULL)


def read_objects(plan: JsonPlan, data: Array, starts: Array, stops: Array) -> JsonObjects:
    """The objects that stand at data[starts[i]:stops[i]], of (b,) uint8, less than 2 GB of them."""
    k, n = len(plan.takes), len(starts)
    kinds, places, doubles = np.empty((k, n), np.uint8), np.empty((k, n), np.int64), np.empty((k, n))
    rows = np.empty(n, np.int64)
    count = _each(  # type: ignore[no-untyped-call]
        data, starts, stops, plan.takes, plan.names, plan.bounds, plan.table, kinds, places, doubles, rows
    )  # fmt: skip
    return JsonObjects(plan, data, kinds, places, doubles, rows[:count])
