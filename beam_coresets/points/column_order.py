"""Coordinates by their columns' names: which place each has to go to."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_NAMES = 12  # that a message lists

Names = Sequence[str] | None


def places_of(found: Names, wanted: Names, whose: str) -> npt.NDArray[np.int64] | None:
    """Where in `found` each of the columns `wanted` is; None where nothing has to be moved.

    That is where they are in one order, or one side has no names, and so goes by position.

    Args:
      found, wanted: names of coordinates; None for none.
      whose: what has the wanted ones, for messages: "the centers".

    Raises:
      ValueError: other columns, or another number of them.
    """
    if found is None or wanted is None or list(found) == list(wanted):
        return None
    place = {name: i for i, name in enumerate(found)}
    if place.keys() != set(wanted) or len(found) != len(wanted):
        raise ValueError(f"columns: must have those of {whose} ({listed(wanted)}), got ({listed(found)})")
    return np.array([place[name] for name in wanted], np.int64)


def names_of_each(columns: Names, dim: int) -> tuple[str, ...] | None:
    """Names of `dim` coordinates, from the column `columns` of the table `summaries`: none where they are one vector's
    or are not known."""
    return None if columns is None or len(columns) != dim else tuple(columns)


def names_of_places(columns: Names, dim: int) -> tuple[str, ...] | None:
    """A name for each of `dim` coordinates: that of its column, or of one column of vectors that and the place from 0
    on, as in "embedding[3]"; None where there are none."""
    if not columns or len(columns) not in (1, dim):
        return None
    return names_of_each(columns, dim) or tuple(f"{columns[0]}[{j}]" for j in range(dim))


def moved(coordinates: Any, places: npt.NDArray[np.int64] | None) -> Any:
    """An array (..., d) with coordinates put in order; as it is where `places` is None."""
    return coordinates if places is None else np.ascontiguousarray(coordinates[..., places])


def listed(names: Sequence[str]) -> str:
    """The names, or the first ones and how many there are."""
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])}, ... {len(names):,} in all"
