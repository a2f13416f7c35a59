"""How many rows may be refused."""
import re
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection
from apache_beam.transforms.window import GlobalWindows

from beam_coresets.transforms.base.dead_letter import DeadLetter

# where it stood, which is what they are sorted by, and what people read of it
Example = tuple[tuple[str, tuple[tuple[int, str], ...]], str]
Found = tuple[int, dict[str, int], list[Example]]  # how many, how many of each kind, the first ones


def gate(letters: PCollection, max_bad_rows: int | None) -> tuple[Any, ...]:
    """A side input that is only there if few enough rows were refused; none if any number may be."""
    if max_bad_rows is None:
        return ()
    together = letters | "LettersOfAllWindows" >> beam.WindowInto(GlobalWindows())
    examples = together | "BadRows" >> beam.CombineGlobally(BadRows())
    return (AsSingleton(examples | "Tolerate" >> beam.Map(_tolerate, max_bad_rows)),)


def place(letter: DeadLetter) -> tuple[str, tuple[tuple[int, str], ...]]:
    """What dead letters are sorted by: the file, then the position, its numbers by value ("row 9" before "row 10")."""
    words = re.split(r"(\d+)", letter.position)
    return letter.source, tuple((int(word), "") if word.isdecimal() else (-1, word) for word in words)


class BadRows(beam.CombineFn):
    """Dead letters -> (number, {reason and column: number}, the first five by file and position)."""

    EXAMPLES = 5

    def create_accumulator(self) -> Found:
        return 0, {}, []

    def add_input(self, total: Found, letter: DeadLetter) -> Found:
        what = f"{letter.reason} in {letter.column_name!r}" if letter.column_name else letter.reason
        example = place(letter), f"{letter.source}, {letter.position}: {what}"
        return self.merge_accumulators([total, (1, {what: 1}, [example])])

    def merge_accumulators(self, totals: Iterable[Found]) -> Found:
        count = 0
        reasons: dict[str, int] = {}
        examples: list[Example] = []
        for n, r, e in totals:
            count += n
            examples += e
            for what, times in r.items():
                reasons[what] = reasons.get(what, 0) + times
        return count, reasons, sorted(examples)[: self.EXAMPLES]

    def extract_output(self, total: Found) -> Found:
        return total


def tolerate(letters: Iterable[DeadLetter], limit: int) -> None:
    """Raises ValueError if there are more than `limit`, with examples."""
    count = BadRows()
    total = count.create_accumulator()
    for letter in letters:
        total = count.add_input(total, letter)
    _tolerate(total, limit)


def described(found: Found) -> str:
    """How many rows were refused, for which reasons, and where the first ones stood."""
    count, reasons, examples = found
    by_reason = ", ".join(f"{what}: {times}" for what, times in sorted(reasons.items()))
    return f"{count} ({by_reason}); first: " + "; ".join(text for _, text in examples)


def _tolerate(found: Found, limit: int) -> Found:
    if found[0] > limit:
        missing = any(what.startswith("null in ") for what in found[1])
        hint = "--max-bad-rows lets so many go to dead_letters"
        hint += ", --columns leaves out columns in which values are missing" if missing else ""
        raise ValueError(f"max_bad_rows: at most {limit} rows may be refused, got {described(found)}; {hint}")
    return found
