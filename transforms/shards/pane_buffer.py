"""The rows that a shard has read and not yet reported, pane by pane."""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_coresets._jit import kernel
from beam_coresets.points.block import concatenate_extras
from beam_coresets.shards.assignment import part_ids
from beam_coresets.shards.refused import Counts, by_column
from beam_coresets.streaming.cursor import PartCursor, ShardCursor
from beam_coresets.streaming.partial_reports import PaneRows
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.shards.shard_restriction import Reading
from beam_coresets.transforms.streams.source import Chunk

Array = npt.NDArray[Any]
Names = Callable[[int], str]


@kernel
def _numbered(offsets, counts, out):  # type: ignore[no-untyped-def]
    """What tells rows of one part apart: the offset of their message and their number in it; of messages of more than
    65,536 rows, the rest of the number goes where offsets of one window don't differ."""
    i = 0
    for m in range(len(offsets)):
        base = np.uint64(offsets[m]) << np.uint64(16)
        for r in range(counts[m]):
            out[i] = base ^ np.uint64(r & 0xFFFF) ^ (np.uint64(r >> 16) << np.uint64(40))
            i += 1


class PaneBuffer:
    """Collects chunks, cut where panes change.

    Attributes:
      letters: what was refused, with the bounds of its pane.
    """

    def __init__(self) -> None:
        self.letters: list[tuple[DeadLetter, tuple[float, float] | None]] = []
        self._pieces: dict[int, list[Chunk]] = {}
        self.nbytes = 0

    def add(self, chunk: Chunk, panes: npt.NDArray[np.int64]) -> None:
        """Takes in a chunk whose messages fall into `panes`, (m,)."""
        if not len(panes):
            return
        self.nbytes += chunk.points.nbytes + 16 * len(chunk.points)
        for pane in np.unique(panes).tolist():
            inside = panes == pane
            self._pieces.setdefault(pane, []).append(chunk if inside.all() else _messages(chunk, inside))

    def refuse(self, chunks: Sequence[Chunk], before: ShardCursor, reading: Reading) -> None:
        """Takes in what was refused in chunks that come after the cursor `before`, where it is to be written."""
        if reading.letters is None or reading.completeness is None:
            return
        bounds = reading.completeness.windows.bounds
        for chunk in chunks:
            for letter, pane in refused_in(chunk, before.parts[chunk.part], reading):
                self.letters.append((letter, None if pane is None else bounds(pane)))

    def rows(self, pane: int, names: Names) -> PaneRows:
        """All rows of a pane; `names` gives the name of a part for printed ids."""
        pieces = self._pieces.get(pane, [])
        if not pieces:
            return PaneRows(np.empty((0, 0), np.float32), np.empty(0), np.empty(0, np.uint64))
        keyed = pieces[0].keys is not None
        return PaneRows(
            np.concatenate([piece.points for piece in pieces]),
            np.concatenate([np.ones(len(p.points)) if p.weights is None else p.weights for p in pieces]),
            np.concatenate([_ids(piece) for piece in pieces]),
            _keys(pieces) if keyed else None,
            None if pieces[0].groups is None else np.concatenate([p.groups for p in pieces if p.groups is not None]),
            lambda rows: _extras(pieces, rows, names),
        )


def refused_in(chunk: Chunk, part: PartCursor, reading: Reading) -> list[tuple[DeadLetter, int | None]]:
    """What was refused in a chunk that comes after the cursor `part`, in order, and the pane of each, where it has one.

    All holders of a part say the same of it, wherever they cut it into chunks.
    """
    if not chunk.letters or reading.completeness is None:
        return [(letter, 0) for letter in chunk.letters]
    windows, times = reading.completeness.windows, chunk.times_of_letters(part.high)
    at = np.zeros(len(times)) if chunk.letter_offsets is None else chunk.letter_offsets
    panes = [windows.pane(time) if np.isfinite(time) else part.begin for time in times.tolist()]
    return [(chunk.letters[i], panes[i]) for i in np.argsort(at, kind="stable").tolist()]


def counted(refused: Sequence[tuple[DeadLetter, int | None]]) -> dict[int, Counts]:
    """How many were refused in each pane, by column; those without a pane are in no window."""
    panes = sorted({pane for _, pane in refused if pane is not None})
    return {pane: by_column(letter.column_name for letter, own in refused if own == pane) for pane in panes}


def _messages(chunk: Chunk, inside: npt.NDArray[np.bool_]) -> Chunk:
    """Some of a chunk's messages."""
    rows = np.flatnonzero(np.repeat(inside, chunk.counts))
    taken = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) and rows[-1] - rows[0] + 1 == len(rows) else rows
    extras = chunk.extras
    return Chunk(
        chunk.part,
        chunk.start,
        chunk.stop,
        chunk.position,
        chunk.points[taken],
        chunk.offsets[inside],
        chunk.counts[inside],
        chunk.times[inside],
        None if chunk.weights is None else chunk.weights[taken],
        None if chunk.keys is None else chunk.keys[inside],
        None if chunk.ids is None else chunk.ids[taken],
        None if chunk.groups is None else chunk.groups[taken],
        None if extras is None else extras.take(pa.array(rows)),
    )


def _keys(pieces: Sequence[Chunk]) -> pa.DictionaryArray:
    """The key of each row: a message has one, and most have many rows."""
    each = pa.array(np.concatenate([p.keys for p in pieces if p.keys is not None]), pa.string()).dictionary_encode()
    counts = np.concatenate([piece.counts for piece in pieces])
    return pa.DictionaryArray.from_arrays(np.repeat(each.indices.to_numpy(), counts), each.dictionary)


def _ids(piece: Chunk) -> npt.NDArray[np.uint64]:
    if piece.ids is not None:
        return part_ids(piece.part, piece.ids)
    out = np.empty(len(piece.points), np.uint64)
    _numbered(piece.offsets, piece.counts, out)
    return part_ids(piece.part, out)


def _extras(pieces: Sequence[Chunk], rows: Array, names: Names) -> pa.Table | None:
    """What travels with the sampled rows, by their numbers among all rows of `pieces`, in any order."""
    ends = np.cumsum([0, *(len(piece.points) for piece in pieces)])
    which = np.searchsorted(ends, rows, side="right") - 1
    tables, places = [], []
    for i in np.unique(which).tolist():
        mine = np.flatnonzero(which == i)
        tables.append(_piece_extras(pieces[i], rows[mine] - ends[i], names))
        places.append(mine)
    if not tables:
        return None
    order = np.argsort(np.concatenate(places), kind="stable")
    return concatenate_extras(tables).take(pa.array(order))


def _piece_extras(piece: Chunk, rows: Array, names: Names) -> pa.Table:
    table = None if piece.extras is None else piece.extras.take(pa.array(rows))
    if table is not None and "id" in table.column_names:
        return table
    ends = np.cumsum(piece.counts)
    message = np.searchsorted(ends, rows, side="right")
    number = rows - (ends - piece.counts)[message]
    name = names(piece.part)
    ids = [
        f"{name}@{offset}" if count == 1 else f"{name}@{offset}#{i}"
        for offset, count, i in zip(
            piece.offsets[message].tolist(), piece.counts[message].tolist(), number.tolist(), strict=True
        )
    ]
    column = pa.array(ids, pa.string())
    return pa.table({"id": column}) if table is None else table.append_column("id", column)
