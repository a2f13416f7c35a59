"""Lines of words between blanks, as columns of text."""
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_coresets._jit import kernel
from beam_coresets.transforms.text.cells import as_columns
from beam_coresets.transforms.text.records import Refused

Array = npt.NDArray[Any]


@kernel
def _tokenise(data, out, width, starts, stops, counts, numbers):  # type: ignore[no-untyped-def]
    """Writes lines of `width` words to `out`, words joined by tabs; lists the others.

    Returns the bytes written, the lines that are not blank, and how many of them were listed.
    """
    written = 0
    lines = 0
    bad = 0
    i = 0
    while i < len(data):
        begin, back, words = i, written, 0
        inside = False
        while i < len(data) and data[i] != 10 and data[i] != 13:
            c = data[i]
            if c == 32 or (9 <= c <= 12):
                inside = False
            else:
                if not inside:
                    if words:
                        out[written] = 9
                        written += 1
                    words += 1
                    inside = True
                out[written] = c
                written += 1
            i += 1
        if words == width:
            out[written] = 10
            written += 1
        else:
            written = back
            if words:
                starts[bad], stops[bad], counts[bad], numbers[bad] = begin, i, words, lines
                bad += 1
        lines += words > 0
        i += 1
    return written, lines, bad


def split_words(chunk: bytes, width: int) -> tuple[bytes, Array, list[Refused]]:
    """(lines of `width` words, with tabs between; their numbers (n,) among lines with words; the other lines)."""
    data = np.frombuffer(chunk, np.uint8)
    out = np.empty(len(data) + 1, np.uint8)
    room = chunk.count(b"\n") + chunk.count(b"\r") + 1
    starts, stops, counts, numbers = (np.empty(room, np.int64) for _ in range(4))
    written, lines, bad = _tokenise(data, out, width, starts, stops, counts, numbers)  # type: ignore[no-untyped-call]
    good = np.ones(lines, bool)
    good[numbers[:bad]] = False
    wrong = [
        Refused(
            int(numbers[j]), f"columns: must be {width}, got {counts[j]}",
            chunk[starts[j] : stops[j]].decode("utf-8", "replace"),
        )
        for j in range(bad)
    ]  # fmt: skip
    return out[:written].tobytes(), np.flatnonzero(good), wrong


def columns_of_words(lines: bytes, width: int, take: dict[int, Any], rows: int, decimal: str) -> Any:
    """`as_columns` of what `split_words` gives."""
    return as_columns(lines, width, take, rows, "\t", None, decimal)


def are_parted_by_commas(lines: Sequence[Sequence[str]]) -> bool:
    """Whether commas may stand between the numbers of a text rather than in them."""
    if not lines or not all("," in words[0] for words in lines):
        return False
    return all(len(words) == 1 for words in lines) or any(word.endswith(",") for words in lines for word in words)
