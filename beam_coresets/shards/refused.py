"""Rows that were refused, counted by the column at fault: how many a window has had, whoever has read them."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

Counts = tuple[tuple[str, int], ...]  # (column, rows), rising; the empty column where a whole row is at fault


@dataclasses.dataclass(frozen=True)
class RefusedRows:
    """Rows of a window that became dead letters.

    Attributes:
      columns: the columns at fault and how many rows each has cost, in rising order.
      rows: how many rows were taken beside them, of all keys.
    """

    columns: Counts = ()
    rows: int = 0

    @property
    def count(self) -> int:
        """Rows that were refused."""
        return sum(number for _, number in self.columns)

    @property
    def share(self) -> float:
        """Of all rows."""
        return self.count / (self.count + self.rows) if self.count else 0.0

    @property
    def worst(self) -> str:
        """The column that most of them have; the first of several."""
        return max(self.columns, key=lambda each: each[1], default=("", 0))[0]

    def by_column(self, names: Sequence[str]) -> list[int | None]:
        """How many rows each of the columns has cost; None where only the number of all is known, or all of them are
        rows without a column at fault."""
        known = dict(self.columns)
        if set(known) == {""}:
            return [None] * len(names)
        return [known.get(name, known.get(name.partition("[")[0], 0)) for name in names]  # vectors' places: all alike

    @staticmethod
    def of_number(number: int | None) -> RefusedRows | None:
        """Of so many rows whose columns are not known."""
        return None if number is None else RefusedRows((("", number),) if number else ())

    @staticmethod
    def together(parts: Iterable[RefusedRows | None]) -> RefusedRows | None:
        """Of several windows; None if one of them is not known."""
        known = list(parts)
        held = [each for each in known if each is not None]
        if len(held) < len(known):
            return None
        return RefusedRows(added(each.columns for each in held), sum(each.rows for each in held))

    @staticmethod
    def most(parts: Iterable[RefusedRows | None]) -> RefusedRows | None:
        """That of the most rows: keys that are not in all panes of a window know of fewer."""
        held = [each for each in parts if each is not None]
        return max(held, key=lambda each: each.count, default=None)

    def to_fields(self) -> list[Any]:
        """As JSON has it."""
        return [[list(each) for each in self.columns], self.rows]

    @staticmethod
    def from_fields(fields: Sequence[Any] | None) -> RefusedRows | None:
        """The inverse of `to_fields`; None where there is nothing."""
        return None if fields is None else RefusedRows(counts_of(fields[0]), int(fields[1]))


def counts_of(fields: Sequence[Any]) -> Counts:
    """The counts that JSON has.

    Raises:
      ValueError: a number that is not positive.
    """
    counts = tuple((str(column), int(number)) for column, number in fields)
    if any(number < 1 for _, number in counts):
        raise ValueError(f"refused: must be at least 1 row a column, got {counts}")
    return counts


def added(counts: Iterable[Counts]) -> Counts:
    """All of them together."""
    total: dict[str, int] = {}
    for each in counts:
        for column, number in each:
            total[column] = total.get(column, 0) + number
    return tuple(sorted(total.items()))


def by_column(columns: Iterable[str]) -> Counts:
    """The columns at fault of single rows, counted."""
    return added(((column, 1),) for column in columns)
