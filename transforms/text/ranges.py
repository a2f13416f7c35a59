"""How many records begin in a byte range of a text, and where: told much faster than they are read.

All that stands before a byte tells whether it is inside quotes. So a range is counted from each place where its first
record may begin: behind its first line end, and behind the record that has a quoted cell which goes on there. Where
the records of the range before it end tells which place is right; if none is, the range is counted once more, from
there. Records are told apart by what reads them (`records`), so that no row gets another number.
"""
from typing import Any, NamedTuple

import numpy as np

from beam_coresets._jit import kernel
from beam_coresets.transforms.text import records
from beam_coresets.transforms.text.dialects import without_separator_line
from beam_coresets.transforms.text.records import NONE, encoding_of

END = 1 << 62  # a place behind the end of any file
_MOST_BYTES = 8 << 20  # of one record; half of what `records` gives a quote to be closed, wherever its pieces begin
_PIECE_BYTES = 1 << 20  # which stay in a processor's cache
_LINE_ENDS = _LF, _CR = 10, 13


class Counted(NamedTuple):
    """The records that begin in a byte range, from one of them on.

    Attributes:
      start: where the first of them begins.
      rows: how many there are.
      next: where the first one behind the range begins; `END` if there is none, or the rest must be read as a whole.
    """

    start: int
    rows: int
    next: int


class Slice:
    """The bytes [start, stop) of an open file; read in pieces that end where those of the whole file do."""

    def __init__(self, file: Any, start: int, stop: int) -> None:
        self._file, self._at, self._stop = file, start, stop
        if start:
            file.seek(start)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        data: bytes = self._file.read(max(0, min(size - self._at % size, self._stop - self._at)))
        self._at += len(data)
        return data


@kernel
def _count_lines(data, last, most, comment, blank):  # type: ignore[no-untyped-def]
    """At most `most` lines: the bytes taken, and how many of the lines hold more than blanks and no comment."""
    n = len(data)
    i = 0
    taken = 0
    rows = 0
    lines = 0
    while i < n and lines < most:
        is_row = False
        if data[i] != comment:
            while i < n and blank[data[i]]:
                i += 1
            is_row = i < n and data[i] != 10 and data[i] != 13
        while i < n and data[i] != 10 and data[i] != 13:
            i += 1
        if i >= n and not last:
            break
        i = min(n, i + 1)
        taken = i
        rows += is_row
        lines += 1
    return taken, rows


class RangeCounter:
    """Counts the records of an open file of text.

    Args:
      file: with `read` and `seek`.
      delimiter, quote, comment: as for `RecordReader`.
      blank: what a line may hold and be no record.
      header: the first record is none of the rows.
      encoding: of the file, if it has no byte order mark; it is counted if it is UTF-8.
    """

    def __init__(
        self, file: Any, delimiter: str | None = None, quote: str | None = None, comment: str | None = None,
        blank: bytes = b"", header: bool = False, encoding: str | None = None,
    ) -> None:  # fmt: skip
        self._file, self._header, self._encoding = file, header, encoding
        self._signs = tuple(NONE if each is None else ord(each) for each in (delimiter, quote, comment))
        self._quote = (quote or "").encode()
        self._special, self._blank = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
        self._special[[*_LINE_ENDS, *([] if delimiter is None else [ord(delimiter)])]] = True
        self._blank[list(blank)] = True
        self._odd = np.empty((1 << 12, 5), np.int64)
        self._begin(0)

    def found(self, start: int, stop: int, exact: bool) -> list[Counted]:
        """`count` if a record is known to begin at `start`, or else `guesses`."""
        return [self.count(start, stop)] if exact or not start else self.guesses(start, stop)

    def count(self, start: int, stop: int) -> Counted:
        """The records that begin in [start, stop); one of them begins at `start`, or `start` is 0."""
        first = start or self._first()
        if first is None:
            return Counted(start, 0, END)
        if first >= stop:
            return Counted(start, 0, first)
        self._begin(first)
        found = self._advanced(first, stop)
        return Counted(start, 0, END) if found is None else Counted(start, found[1], found[0])

    def guesses(self, low: int, stop: int) -> list[Counted]:
        """The same from each place where the first record in [low, stop) may begin, `low` above 0; as far as that is
        told by the first line that ends in the range."""
        self._begin(low - 1)
        line = self._line_end(stop)
        if line is None:
            return []
        self._floor = line
        starts = {self._behind_line_ends(line), self._behind_quote(line)}
        places = {start: (start, 0) for start in starts if start is not None and start < stop}
        while len(there := sorted({at for at, _ in places.values() if at < stop})) > 1:  # they meet soon, nearly always
            self._move(places, there[0], there[1])
        if there:
            self._move(places, there[0], stop)
        return [Counted(start, rows, at) for start, (at, rows) in places.items()]

    def _begin(self, at: int) -> None:
        self._data, self._at, self._ended, self._floor = b"", at, False, END
        self._file.seek(at)

    def _more(self, keep: int) -> None:
        """Reads on, and forgets what stands before `keep`."""
        piece = self._file.read(min(_PIECE_BYTES, records.PIECE_BYTES))
        keep = max(self._at, min(keep, self._floor))
        self._ended = not piece
        self._data, self._at = self._data[keep - self._at :] + piece, keep

    def _scan(self, low: int, high: int, most: int) -> tuple[int, int]:
        """The bytes of at most `most` whole lines or records from data[low] on, before data[high], and how many
        records these are."""
        if low >= high:
            return 0, 0
        last, flat = self._ended and high == len(self._data), np.frombuffer(self._data, np.uint8)[low:high]
        is_comment = most == 1 and self._data[low] == self._signs[2]  # it ends with its line
        if is_comment or not self._quote or self._data.find(self._quote, low, high) < 0:
            several = most > 1 and not last
            if several and (found := self._lines(flat, self._data.find(b"\r", low, high) >= 0)) is not None:
                return found
            return _count_lines(flat, last, most, self._signs[2], self._blank)  # type: ignore[no-untyped-call, no-any-return]
        return self._scan_records(flat, last, most)[:2]

    def _lines(self, flat: Any, with_cr: bool) -> tuple[int, int] | None:
        """The bytes of whole lines, and how many of them are records; None if blanks at the beginning of one leave that
        open."""
        ends = np.flatnonzero((flat == _LF) | (flat == _CR) if with_cr else flat == _LF)
        if not len(ends):
            return 0, 0
        first = flat[np.append(0, ends[:-1] + 1)]
        if self._blank[first].any():
            return None
        rows = int(np.count_nonzero((first != _LF) & (first != _CR) & (first != self._signs[2])))
        return int(ends[-1]) + 1, rows

    def _scan_records(self, flat: Any, last: bool, most: int) -> tuple[int, int, bool]:
        """The bytes of whole records, how many they are, and whether the last one has a quote that is not closed."""
        delimiter, quote, comment = self._signs
        taken, found, odd = records._scan(  # type: ignore[no-untyped-call]
            flat, last, NONE, most, records.MOST_BYTES // 2, self._special, delimiter, quote, comment, self._odd
        )
        return taken, found, odd > 0 and self._odd[odd - 1, 0] == 1

    def _advanced(self, at: int, target: int) -> tuple[int, int] | None:
        """Where the first record that begins at `target` or later does, and the records before it from `at` on; None
        if one of them is too long to tell."""
        rows = 0
        while at < target:
            low = at - self._at
            end = min(len(self._data), low + _MOST_BYTES)
            high = min(target - self._at, end)
            taken, found = self._scan(low, high, np.iinfo(np.int64).max)
            if not taken and high < end:  # a record goes on behind the target
                taken, found = self._scan(low, end, 1)
            at, rows = at + taken, rows + found
            if not taken:
                if end - low == _MOST_BYTES:
                    return None
                if self._ended:
                    return END, rows
                self._more(at)
        return self._behind_line_ends(at), rows

    def _behind_line_ends(self, at: int) -> int:
        """Where the next record may begin, if a line has ended before `at`; `END` at the end of the file."""
        while True:
            i = at - self._at
            while i < len(self._data) and self._data[i] in _LINE_ENDS:
                i += 1
            at = self._at + i
            if i < len(self._data):
                return at
            if self._ended:
                return END
            self._more(at)

    def _first(self) -> int | None:
        """Where the first row begins; None where that can't be told, or the text is not UTF-8."""
        self._begin(0)
        self._more(0)
        name, mark = encoding_of(self._data, self._encoding)
        if name != "utf-8":
            return None
        text = self._data[mark:]
        at = mark + len(text) - len(without_separator_line(text) if self._signs[0] != NONE else text)
        while self._header:
            low = at - self._at
            end = min(len(self._data), low + _MOST_BYTES)
            taken, found, is_open = 0, 0, False
            if low < end:
                flat = np.frombuffer(self._data, np.uint8)[low:end]
                taken, found, is_open = self._scan_records(flat, self._ended and end == len(self._data), 1)
            at += taken
            if found:
                return None if is_open else self._behind_line_ends(at)
            if not taken:
                if end - low == _MOST_BYTES:
                    return None
                if self._ended:
                    return END
                self._more(at)
        return at

    def _line_end(self, stop: int) -> int | None:
        """Where the first line behind the first byte of the data begins, if that is before `stop`."""
        while True:
            found = self._data.find(b"\n")
            if found >= 0:
                return self._at + found + 1 if self._at + found + 1 < stop else None
            end = self._at + len(self._data)
            if self._ended or end >= stop:
                return None
            self._more(end)

    def _behind_quote(self, at: int) -> int | None:
        """Where the record behind one that has an open quote at `at` begins; None where that is not closed soon."""
        low = at - self._at
        if not self._quote or self._data.find(self._quote, low) < 0:
            return None
        while True:
            low = at - self._at
            end = min(len(self._data), low + _MOST_BYTES)
            flat = np.frombuffer(self._quote + self._data[low:end], np.uint8)
            taken, found, is_open = self._scan_records(flat, self._ended and end == len(self._data), 1)
            if found:
                return None if is_open else self._behind_line_ends(at + taken - 1)
            if self._ended or end - low == _MOST_BYTES:
                return None
            self._more(at)

    def _move(self, places: dict[int, tuple[int, int]], at: int, target: int) -> None:
        """Moves all that have come to `at` on to the target."""
        self._floor = min((each for each, _ in places.values() if each != at), default=END)
        found = self._advanced(at, target)
        for start in [start for start, (there, _) in places.items() if there == at]:
            if found is None:
                del places[start]
            else:
                places[start] = found[0], places[start][1] + found[1]
