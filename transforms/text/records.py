"""The bytes of a text file to whole records, every one of which is handed on or refused.

Arrow's CSV reader takes what follows an opening quote for one cell, up to the next quote or the end of the file, and it
can't say where a row that it refuses has bytes that are no UTF-8. So records are told apart here, in one pass over the
bytes, and it gets those only that have the right number of cells.
"""
import codecs
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel

Array = npt.NDArray[Any]

PIECE_BYTES = 4 << 20
MOST_BYTES = 32 << 20  # of one record
_BEGINNING_BYTES = 1 << 20
NONE = -1  # no such character, any width
_LEAST_PLAIN, _LONGEST_PLAIN = 1 << 20, 1 << 16  # bytes: of what is tried as a whole, of a line at its end
_MOST_SHOWN = 500
_MOST_ODD = 1 << 12  # records left out at a time
_MARKS = (  # byte order marks, the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_COMMENT, _OPEN, _WIDTH = range(3)


class Refused(NamedTuple):
    """A record that can't be split into cells: its number, the reason, its text."""

    number: int
    reason: str
    text: str


class Records(NamedTuple):
    """Consecutive records of a file.

    Attributes:
      data: those with the right number of cells, as UTF-8; bytes or a view of some.
      numbers: (n,) int64, their numbers in the file.
      refused: the others among them.
      columns: what `plain` has made of all of them, in place of the data; or None.
    """

    data: Any
    numbers: Array
    refused: list[Refused]
    columns: Any = None


def encoding_of(head: bytes, asked: str | None = None) -> tuple[str, int]:
    """The encoding of a text that begins so, and the bytes of its byte order mark, which goes before what is asked."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name, len(mark)
    if asked is not None:
        return codecs.lookup(asked).name, 0
    zeros = np.frombuffer(head[: len(head[:4096]) & ~1], np.uint8).reshape(-1, 2) == 0
    if len(zeros):
        even, odd = zeros.mean(axis=0)
        if max(even, odd) > 0.7 and min(even, odd) == 0:  # Western text in two bytes a character
            return ("utf-16-le" if odd > even else "utf-16-be"), 0
    return "utf-8", 0


def utf8_pieces(file: Any, encoding: str | None = None) -> Iterator[bytes]:
    """The text of an open file in pieces of some MB, as UTF-8 without a byte order mark.

    Raises:
      ValueError: bytes that are none of the encoding's; UTF-8 itself is not looked into.
    """
    head = file.read(PIECE_BYTES)
    name, skip = encoding_of(head, encoding)
    head = head[skip:]
    if name == "utf-8":
        if head:
            yield head
        yield from pieces(file)
        return
    decoder, done = codecs.getincrementaldecoder(name)(), skip
    while True:
        try:
            text = decoder.decode(head, final=not head)
        except UnicodeDecodeError as error:
            raise ValueError(f"encoding: must be the file's, got {name}, and byte {done} or later is none") from error
        done += len(head)
        if text:
            yield text.encode("utf-8", "replace")
        if not head:
            return
        head = file.read(PIECE_BYTES)


def pieces(file: Any) -> Iterator[bytes]:
    """What is left of an open file in pieces of some MB."""
    while piece := file.read(PIECE_BYTES):
        yield piece


def beginning(text: Iterable[bytes]) -> bytes:
    """The first MB of a text, whole lines if there is more."""
    head = b""
    for piece in text:
        head += piece
        if len(head) >= _BEGINNING_BYTES:
            return head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head
    return head


@kernel
def _scan(data, last, width, most, longest, special, delimiter, quote, comment, odd):  # type: ignore[no-untyped-def]
    """Finds at most `most` records; `odd` (m, 5) gets (kind, begin, end, number, cells) of at most m to leave out.

    Returns the bytes taken, the records, and how many rows of `odd` are used.
    """
    n = len(data)
    taken = 0
    records = 0
    found = 0
    i = 0
    while i < n and records < most and found < len(odd):
        if data[i] == 10 or data[i] == 13:
            i += 1
            taken = i
            continue
        begin = i
        kind = -1
        cells = 1
        if data[i] == comment:
            kind = 0
        else:
            while i < n:
                if data[i] == quote:  # a cell begins with it
                    i += 1
                    while i < n:
                        if data[i] == quote:
                            if i + 1 < n and data[i + 1] == quote:
                                i += 1
                            else:
                                break
                        i += 1
                    if i >= n or (i + 1 >= n and not last):
                        if not last and n - begin <= longest:
                            return taken, records, found
                        if i >= n:
                            kind = 1
                            break
                    i += 1
                    while i < n and data[i] == 32 and delimiter != 32:
                        i += 1
                    if i < n and data[i] != delimiter and data[i] != 10 and data[i] != 13:
                        kind = 1
                        break
                else:
                    while i < n and not special[data[i]]:
                        i += 1
                if i >= n or data[i] != delimiter:
                    break
                cells += 1
                i += 1
        if kind >= 0:
            i = begin
            while i < n and data[i] != 10 and data[i] != 13:
                i += 1
        if i >= n and not last:
            break
        if kind < 0 and width >= 0 and cells != width:
            kind = 2
        if kind >= 0:
            odd[found, 0], odd[found, 1], odd[found, 2], odd[found, 3], odd[found, 4] = kind, begin, i, records, cells
            found += 1
        records += kind != 0
        i += 1
        taken = min(i, n)
    return taken, records, found


class RecordReader:
    """The records of a text, piece by piece.

    Args:
      pieces: the text, as UTF-8.
      delimiter, quote, comment: one ASCII character each, or None; without a delimiter a line is one cell. A line that
        begins with `comment` is no record, nor is an empty one. Line ends are LF, CR LF or CR.
      first: the first record's number.

    Attributes:
      number: the next one's.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        delimiter: str | None = None,
        quote: str | None = None,
        comment: str | None = None,
        first: int = 0,
    ) -> None:
        self._pieces = iter(pieces)
        self._delimiter, self._quote, self._comment = (
            NONE if each is None else ord(each) for each in (delimiter, quote, comment)
        )
        self._special = np.zeros(256, np.bool_)
        self._special[[10, 13] if delimiter is None else [10, 13, self._delimiter]] = True
        self._quote_sign = (quote or "").encode()
        self._rest: Any = b""
        self._held: Any = b""
        self._ended = False
        self._records = first

    @property
    def number(self) -> int:
        return self._records

    def first(self) -> bytes | None:
        """The next record alone, not numbered; None where there is none. Raises ValueError for an open quote in it."""
        while True:
            self._more()
            taken, records, odd = self._scanned(NONE, 1)
            data, self._rest = bytes(self._rest[:taken]), self._rest[taken:]
            if any(kind == _OPEN for kind, *_ in odd):
                said = "a quote in the first line that is not closed, or has text behind it (--quote, --delimiter)"
                raise ValueError(said)
            if records:
                begin = max((end for kind, _, end, _, _ in odd), default=0)
                return data[begin:].strip(b"\r\n")
            if self._ended:
                return None

    def batches(self, width: int = NONE, plain: Callable[[Any], Any] | None = None) -> Iterator[Records]:
        """What is left, refusing records of another width. Raises ValueError for one of more than 32 MB.

        Args:
          plain: of lines that are whole, to columns of all records in them; or None: they are told apart here.
        """
        full = False
        while self._rest or self._held or not self._ended:
            if not full:
                self._more()
                if plain is not None and (found := self._by(plain)) is not None:
                    yield found
                    continue
            taken, records, odd = self._scanned(width, np.iinfo(np.int64).max)
            full = len(odd) == _MOST_ODD
            data, self._rest = memoryview(self._rest)[:taken], self._rest[taken:]
            if len(self._rest) > MOST_BYTES:
                most = f"{MOST_BYTES >> 20} MB"
                raise ValueError(f"row {self._records + records} has more than {most} without a line end")
            if records:
                yield self._made(data, records, odd, width)
                self._records += records

    def _by(self, plain: Callable[[Any], Any]) -> Records | None:
        """The records of the lines that are whole, if all of them are plain."""
        whole = len(self._rest)
        if not self._ended:
            flat = np.frombuffer(self._rest, np.uint8)[-_LONGEST_PLAIN:]
            ends = np.flatnonzero(flat == 10)
            whole = whole - len(flat) + int(ends[-1]) + 1 if len(ends) else 0
        view = memoryview(self._rest)
        columns = plain(view[:whole]) if whole >= _LEAST_PLAIN else None
        if columns is None:
            return None
        self._rest = view[whole:]
        numbers = np.arange(self._records, self._records + len(columns))
        self._records += len(columns)
        return Records(b"", numbers, [], columns)

    def _more(self) -> None:
        """Reads on. A line that was cut comes alone: to copy it is cheaper than to copy a whole piece."""
        rest, self._held, held = bytes(self._rest), b"", self._held
        if not held:
            held = b"" if self._ended else next(self._pieces, b"")
            self._ended = self._ended or not held
            cut = held.find(b"\n") + 1 if rest else 0
            if cut and not (self._quote_sign and self._quote_sign in rest + held[:cut]):
                held, self._held = held[:cut], memoryview(held)[cut:]
        self._rest = b"".join((rest, held)) if rest else held

    def _scanned(self, width: int, most: int) -> tuple[int, int, Array]:
        odd = np.empty((_MOST_ODD, 5), np.int64)
        flat = np.frombuffer(self._rest, np.uint8)
        taken, records, found = _scan(  # type: ignore[no-untyped-call]
            flat, self._ended, width, most, MOST_BYTES // 2, self._special,
            self._delimiter, self._quote, self._comment, odd,
        )  # fmt: skip
        return taken, records, odd[:found]

    def _made(self, data: memoryview, records: int, odd: Array, width: int) -> Records:
        if not len(odd):
            return Records(data, np.arange(self._records, self._records + records), [])
        good = np.ones(records, bool)
        refused, pieces, at = [], [], 0
        for kind, begin, end, number, cells in odd.tolist():
            pieces.append(data[at:begin])
            at = end
            if kind == _COMMENT:
                continue
            good[number] = False
            reason = f"columns: must be {width}, got {cells}"
            if kind == _OPEN:
                reason = "quote: must be closed at the end of its cell, got one that is not"
            shown = bytes(data[begin : min(end, begin + _MOST_SHOWN)]).decode("utf-8", "replace")
            refused.append(Refused(self._records + number, reason, shown))
        return Records(b"".join([*pieces, data[at:]]), self._records + np.flatnonzero(good), refused)
