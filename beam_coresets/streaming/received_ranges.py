"""What a window's coordinator has received of each shard and part, as text of which only what is asked for is read.

The coordinator's state is read and written with every report, which speaks of one shard: with thousands of shards,
reading all of it each time would take longer than everything else.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping

Entry = tuple[list[list[int]], int, int]


class ReceivedRanges(MutableMapping[tuple[int, int], Entry]):
    """By (shard, part): the joined ranges of offsets, rows received, and the rows that the shard says there are.

    Its text is a line a shard, by rising number, the line's number first. Equal contents have equal text.
    """

    def __init__(self, entries: Mapping[tuple[int, int], Entry] | None = None) -> None:
        self._text = ""  # of the shards that have not been asked for
        self._read: dict[int, dict[int, Entry]] = {}
        for (shard, part), entry in (entries or {}).items():
            self._read.setdefault(shard, {})[part] = entry

    @staticmethod
    def from_text(text: str) -> ReceivedRanges:
        """The inverse of `text`."""
        out = ReceivedRanges()
        out._text = text
        return out

    def text(self) -> str:
        """All of it."""
        lines = {shard: _line(shard, mine) for shard, mine in sorted(self._read.items()) if mine}
        if not self._text:
            return "".join(lines.values())
        out = self._text
        for shard, line in lines.items():
            at, _ = _find(out, shard)
            out = out[:at] + line + out[at:]
        return out

    @property
    def shards(self) -> int:
        """How many have been heard of."""
        return self._text.count("\n") + sum(bool(mine) for mine in self._read.values())

    def of(self, shard: int) -> dict[int, Entry]:
        """One shard's entries by part; changes to them are changes of this."""
        mine = self._read.get(shard)
        if mine is None:
            low, high = _find(self._text, shard)
            mine = self._read[shard] = _entries(self._text[low:high])
            self._text = self._text[:low] + self._text[high:]
        return mine

    def __getitem__(self, key: tuple[int, int]) -> Entry:
        shard, part = key
        return self.of(shard)[part]

    def __setitem__(self, key: tuple[int, int], entry: Entry) -> None:
        shard, part = key
        self.of(shard)[part] = entry

    def __delitem__(self, key: tuple[int, int]) -> None:
        shard, part = key
        del self.of(shard)[part]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self._read_all()
        return ((shard, part) for shard, mine in self._read.items() for part in mine)

    def __len__(self) -> int:
        self._read_all()
        return sum(map(len, self._read.values()))

    def __repr__(self) -> str:
        return f"ReceivedRanges({dict(self)})"

    def _read_all(self) -> None:
        for line in self._text.splitlines():
            self._read[int(line[: line.index(":")])] = _entries(line)
        self._text = ""


def _line(shard: int, mine: Mapping[int, Entry]) -> str:
    rows = [[part, *entry] for part, entry in sorted(mine.items())]
    return f"{shard}:{json.dumps(rows, separators=(',', ':'))}\n"


def _entries(line: str) -> dict[int, Entry]:
    rows = json.loads(line[line.index(":") + 1 :]) if line else []
    return {part: (spans, received, total) for part, spans, received, total in rows}


def _find(text: str, shard: int) -> tuple[int, int]:
    """Where a shard's line begins and ends, or would: by halving."""
    low, high = 0, len(text)
    while low < high:
        start = max(low, text.rfind("\n", low, (low + high) // 2) + 1)
        stop = text.index("\n", start) + 1
        number = int(text[start : text.index(":", start)])
        if number == shard:
            return start, stop
        low, high = (stop, high) if number < shard else (low, start)
    return low, low
