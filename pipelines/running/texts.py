"""Texts that others wrote (ids, keys, names of columns, refused rows), as a line of a terminal may have them."""
from rich.console import Console
from rich.markup import escape as marked
from rich.text import Text

from beam_coresets.bounded import printable

MOST_TEXT, MOST_LINE = 300, 1_000  # characters of one, and of a line with several


def one_line(text: str, most: int = MOST_TEXT) -> str:
    """A text without line breaks, tabs and what else terminals act upon, which are spelled out; of a long one its two
    ends and how long it is."""
    if len(text) > most:
        kept = most - most // 4
        text = f"{text[:kept]} ... {text[-(most // 4):]} ({len(text):,} characters)"
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def escape(text: str) -> str:
    """`one_line`, as rich's markup has it."""
    return marked(one_line(text))


class Plain(Console):
    """A console on which texts that others wrote stay text, whatever terminals make of them."""

    def render_str(self, text: str, **options: object) -> Text:  # type: ignore[override]
        """As a `Console`, with control characters spelled out."""
        return super().render_str(printable(text), **options)  # type: ignore[arg-type]
