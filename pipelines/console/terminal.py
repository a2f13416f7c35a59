"""What is printed for a person at a terminal."""
from typing import Any

from rich.console import Console
from rich.text import Text

from beam_coresets.bounded import printable


class Terminal(Console):
    """A console on which ids, keys and letters that others wrote stay text, whatever terminals make of them."""

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        """As a `Console`, with control characters spelled out."""
        return super().render_str(printable(text), **options)
