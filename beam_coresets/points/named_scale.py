"""`scale.json`: what columns were scaled by, and their names."""
from __future__ import annotations

import json
from typing import NamedTuple

from beam_coresets.points.column_order import Names, names_of_each, places_of
from beam_coresets.points.scale import Scale

SCALE_VERSION = 1  # of the file; one without a number is of this one


class NamedScale(NamedTuple):
    """A scale and the names of the columns it is of; None where there was no name for each."""

    scale: Scale
    columns: tuple[str, ...] | None

    def of(self, columns: Names, whose: str) -> Scale:
        """The scale of columns of these names, in their order; as it is where one side has none.

        Args:
          whose: what has the columns, for messages.

        Raises:
          ValueError: other columns.
        """
        wanted = names_of_each(columns, len(self.scale.origin))
        return self.scale.moved(places_of(self.columns, wanted, whose))

    @staticmethod
    def parsed(data: bytes) -> NamedScale:
        """That of a file's content.

        Raises:
          ValueError, KeyError, TypeError or AttributeError: a file of a later version, or none that a run writes.
        """
        found = json.loads(data)
        if (version := found.get("version", SCALE_VERSION)) != SCALE_VERSION:
            raise ValueError(f"version: must be {SCALE_VERSION}, got {version!r}")
        origin, divisor = (tuple(map(float, found[name])) for name in ("origin", "divisor"))
        if len(origin) != len(divisor):
            raise ValueError(f"divisor: must be {len(origin)} numbers as origin has, got {len(divisor)}")
        columns = tuple(map(str, found.get("columns") or ()))
        made_up = columns == tuple(f"f{j}" for j in range(len(columns)))  # as files without names are read
        return NamedScale(Scale(origin, divisor), None if made_up else names_of_each(columns, len(origin)))
