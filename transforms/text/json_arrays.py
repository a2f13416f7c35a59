"""One JSON array in a file, its elements a few thousand at a time."""
import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_ELEMENTS = 4096
_SPACE = re.compile(r"[ \t\n\r]*")
_MOST_TEXT = 32 << 20  # of one element


def is_array(head: bytes) -> bool:
    """Whether a JSON file that begins so is one array of objects: lines may be arrays of other things."""
    return re.match(rb"\s*\[\s*(\{|\]\s*$)", head) is not None


def elements(pieces: Iterable[bytes]) -> Iterator[list[Any]]:
    """The elements of an array, in lists of some thousand.

    Raises:
      ValueError: something else than one whole array, or an element of more than 32 MB.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    texts = (decode(piece) for piece in pieces)
    scan = json.JSONDecoder().raw_decode
    text, at, ended, wants, done = "", 0, False, "[", 0
    held: list[Any] = []
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text) - 1 and not ended:
            piece = next(texts, None)
            ended = piece is None
            text, at = text[at:] + (piece or ""), 0
            continue
        sign = text[at : at + 1]
        if wants == "end":
            if sign:
                raise ValueError(f"text behind the array: {text[at : at + 40]!r}")
            break
        if not sign:
            raise ValueError(f"the array is not closed behind element {done}")
        if wants == "[":
            at, wants = at + 1, "first"
        elif sign == "]" and wants in ("first", ","):
            at, wants = at + 1, "end"
        elif wants == ",":
            at, wants = at + 1, "element"
        else:
            try:
                value, end = scan(text, at)
                whole = text[(stop := _SPACE.match(text, end).end()) : stop + 1] in (",", "]")  # type: ignore[union-attr]
                problem = "no comma behind it"
            except ValueError as error:
                whole, problem = False, str(error)
            if not whole:
                if ended or len(text) - at > _MOST_TEXT:
                    raise ValueError(f"element {done} of the array: {problem}")
                piece = next(texts, None)
                ended = piece is None
                text, at = text[at:] + (piece or ""), 0
                continue
            held.append(value)
            at, wants, done = end, ",", done + 1
            if len(held) == _ELEMENTS:
                yield held
                held = []
    if held:
        yield held
