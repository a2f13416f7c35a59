"""Whether the first line of CSV holds names, and which cells of the rows they are of."""
import itertools
from collections import Counter
from collections.abc import Collection, Sequence

from beam_coresets.transforms.text.cells import NULLS
from beam_coresets.transforms.text.dialects import is_number

_LEAST_SPACED = 5  # numbers that are no accident where they are evenly spaced


def width_of(rows: Sequence[Sequence[str]]) -> int:
    """The number of cells of most of the rows."""
    widths = Counter(map(len, rows))
    return min(widths, key=lambda width: (-widths[width], width))


def width_without_header(rows: Sequence[Sequence[str]]) -> int:
    """The first row's number of cells; that of most of the others where none of two or more has as many."""
    first, others = len(rows[0]), rows[1:]
    return first if len(others) < 2 or any(len(row) == first for row in others) else width_of(others)


def names_for(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The names of the cells of some rows: R's first line has none for the first cell, which numbers or names the rows,
    and rows may end with a delimiter.

    Raises:
      ValueError: no row has as many cells as there are names.
    """
    if len(rows) < 2 or any(len(row) == len(names) for row in rows):
        return list(names)
    wider = [row for row in rows if len(row) == len(names) + 1 and row[0] and row[-1]]
    if len(wider) >= 0.9 * len(rows) and _may_name_rows([row[0] for row in wider]):
        return ["", *names]
    if all(len(row) == len(names) + 1 and not row[-1] for row in rows):
        return [*names, ""]
    raise ValueError(
        f"header: must name every cell of a row, got {len(names)} for rows of {width_of(rows)} (where the first line "
        f"is no header: --no-header --max-bad-rows 1)"
    )


def _may_name_rows(cells: Sequence[str]) -> bool:
    """Whether all cells differ, and none is a number with a fraction."""
    return len(set(cells)) == len(cells) and all(cell.isdigit() or not is_number(cell) for cell in cells)


def may_be_data(
    names: Sequence[str], text: Sequence[bool], rows: Sequence[Sequence[str]], null: Collection[str]
) -> str:
    """The option that the reader of a first line should be told of, as its cells may well be data; or "".

    Args:
      names: its cells.
      text: for each whether the cells below it are text rather than numbers.
      rows: some rows below it.
      null: what stands for nothing in this file, besides the usual.
    """
    nothing = {*NULLS, "nan", *map(str.lower, null)}  # a cell without a value says neither
    told = [(is_number(name), below) for name, below in zip(names, text, strict=True) if name.lower() not in nothing]
    numbers = [number for number, _ in told]
    if not any(numbers) or [*names] == ["", *map(str, range(len(names) - 1))] or _are_spaced(names, rows):
        return ""
    if all(numbers) or not any(number == below for number, below in told):
        return "--no-header"
    # Some name stands above numbers. A number that comes first is none all the same, as in 150,4,setosa.
    return "" if not is_number(names[0]) or _count(names) else "--no-header --max-bad-rows 1"


def _values(cells: Sequence[str]) -> list[float]:
    plain = (cell.replace(",", ".") for cell in cells if is_number(cell))
    return [float(cell) for cell in plain if cell.count(".") < 2]


def _count(names: Sequence[str]) -> bool:
    """Whether the numbers among the names are those by which pandas calls columns."""
    values = _values(names)
    return values in ([*range(len(values))], [*range(1, 1 + len(values))])


def _are_spaced(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the numbers in a first line are evenly spaced beside text, such as years, and those below are not."""
    return len(_values(names)) < len(names) and _spaced(names) and not any(map(_spaced, rows))


def _spaced(cells: Sequence[str]) -> bool:
    values = _values(cells)
    steps = [b - a for a, b in itertools.pairwise(values)]
    return len(values) >= _LEAST_SPACED and steps[0] != 0 and max(steps) - min(steps) <= 1e-9 * max(map(abs, values))
