"""What is printed for a person at a terminal, or with --json for a program."""
import contextlib
import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO, TypeVar

import numpy as np

from beam_coresets.declared import declare
from beam_coresets.pipelines.running import logs
from beam_coresets.pipelines.running.texts import Plain
from beam_coresets.times import iso, since_epoch

Spoken = TypeVar("Spoken", bound="TerminalOptions")


@dataclasses.dataclass(frozen=True)
class TerminalOptions:
    """What a command says, and where."""

    json: bool = declare(
        False, "one JSON object on standard output in place of tables, everything else on standard error",
        group="terminal",
    )  # fmt: skip
    quiet: bool = declare(False, "print nothing but errors, and what --json asks for", group="terminal")
    verbose: bool = declare(
        False, "show launch settings, libraries' warnings and whole error reports", group="terminal"
    )


class Terminal(Plain):
    """What a command says to a person, and its answer for a program.

    Args:
      answers: where `answer` writes; None where nobody has asked for JSON.
      options: of `rich.console.Console`.

    Attributes:
      aside: standard error, for what says how far the command is.
    """

    def __init__(self, answers: TextIO | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._answers = answers
        self.aside = Plain(file=logs.standard_error(), quiet=bool(options.get("quiet")))

    @property
    def limit(self) -> int | None:
        """Characters of a line; None where it is no terminal that people look at."""
        return self.width if self.is_terminal else None

    def answer(self, command: str, **fields: Any) -> None:
        """What --json prints, in a line; nothing without it.

        Args:
          command: whose answer it is.
          fields: numbers, texts, times, arrays, in lists and mappings of each other.
        """
        if self._answers is not None:
            text = json.dumps({"command": command, **plain(fields)}, allow_nan=False)
            print(text, file=self._answers, flush=True)


@contextlib.contextmanager
def speaking(known: TerminalOptions) -> Iterator[Terminal]:
    """The console of a command. With --json nothing but `Terminal.answer` gets to standard output meanwhile.

    Raises:
      ValueError: --quiet and --verbose.
    """
    if known.quiet and known.verbose:
        raise ValueError("quiet: must be left out with --verbose, got both")
    if not known.json:
        yield Terminal(quiet=known.quiet)
        return
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield Terminal(answers, quiet=known.quiet)


def plain(value: Any) -> Any:
    """A value as JSON has it: what is no finite number is null, times are ISO 8601 in UTC."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, datetime.datetime):
        return iso(since_epoch(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value
