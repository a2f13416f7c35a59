"""Dead letters of a job that is ended once its answer is there: written before the reports that they come with leave.

What a runner gathers until all is done would be lost with the job. All holders of a part tell what was refused in it,
as one that is chosen may be stuck; whoever ends the job takes each letter once.
"""
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import IntervalWindow

from beam_coresets import table_schemas, tables
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.atomic_files import write_once

FOLDER = (".staging", "letters")
_FORM = "jsonl"


@beam.typehints.with_input_types(DeadLetter)
class WriteLettersEarly(beam.PTransform):
    """Dead letters -> nothing: each bundle's are in a file of their own, named by its content, when the bundle ends.

    Args:
      output: where the job's tables are.

    Raises (while running):
      OSError: the folder can't be written.

    Source: `beam_coresets.transforms.writing.atomic_files.create_exclusively`.

    Example:
      made = rows | BlocksFromRows(Columns(columns=("x", "y", "z")))
      made["dead_letters"] | WriteLettersEarly("out")
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output = output

    def expand(self, letters: PCollection[DeadLetter]) -> PCollection[str]:
        return letters | "Write early" >> beam.ParDo(_WriteEarly(self._output)).with_output_types(str)

    def display_data(self) -> dict[str, Any]:
        return {"output": self._output}


class _WriteEarly(beam.DoFn):
    def __init__(self, output: str) -> None:
        self._output = output
        self._held: list[DeadLetter] = []

    def start_bundle(self) -> None:
        self._held = []

    def process(self, letter: DeadLetter) -> None:
        self._held.append(letter)

    def finish_bundle(self) -> None:
        if self._held:
            data = tables.encode(letters_table(self._held), _FORM)
            name = f"{hashlib.sha256(data).hexdigest()[:32]}.{_FORM}"
            atomic_files.create_exclusively(FileSystems.join(self._output, *FOLDER, name), data)


def take_letters(output: str, form: str) -> list[DeadLetter]:
    """Puts what shards have refused into `output`/dead_letters, as `WriteDeadLetters` does; the letters, once each."""
    folder = str(FileSystems.join(output, *FOLDER))
    found: set[DeadLetter] = set()
    for name in atomic_files.names_in(folder):
        if name.endswith(f".{_FORM}") and not name.startswith("."):
            rows: pa.Table = tables.decode(atomic_files.read(FileSystems.join(folder, name)), _FORM)
            found.update(DeadLetter(**row) for row in rows.to_pylist())
    for source in sorted({letter.source for letter in found}):
        write_letters(output, form, source, [letter for letter in found if letter.source == source])
    atomic_files.remove_folder(folder)
    return sorted(found, key=lambda letter: (letter.source, len(letter.position), letter.position))


@beam.typehints.with_input_types(DeadLetter)
@beam.typehints.with_output_types(str)
class WriteDeadLetters(beam.PTransform):
    """Dead letters -> the paths of files in `output`/dead_letters, one for each input file and window that had any.

    Args:
      output, form: as for `WriteSummaries`.

    Raises (while running):
      ValueError: an unknown format.
      OSError: the folder can't be written.

    Source: `beam_coresets.transforms.writing.atomic_files.write_once`.

    Example:
      made = rows | BlocksFromRows(Columns(columns=("x", "y", "z")))
      made["dead_letters"] | WriteDeadLetters("out", "jsonl")
    """

    def __init__(self, output: str, form: str = "parquet") -> None:
        super().__init__()
        self._output, self._form = output, form

    def expand(self, letters: PCollection[DeadLetter]) -> PCollection[str]:
        return (
            letters
            | "Key by source" >> beam.Map(lambda letter: (letter.source, letter))
            | "Gather by source" >> beam.GroupByKey()
            | "Write letters" >> beam.ParDo(_WriteLetters(self._output, self._form))
        )

    def display_data(self) -> dict[str, Any]:
        return {"output": self._output, "format": self._form}


class _WriteLetters(beam.DoFn):
    def __init__(self, output: str, form: str) -> None:
        self._output, self._form = output, form

    def process(
        self, element: tuple[str, Iterable[DeadLetter]], window: Any = beam.DoFn.WindowParam
    ) -> Iterator[str]:
        source, letters = element
        place = f"-{float(window.start):.3f}-{float(window.end):.3f}" if isinstance(window, IntervalWindow) else ""
        yield write_letters(self._output, self._form, source, letters, place)


def letters_table(letters: Iterable[DeadLetter]) -> pa.Table:
    """Dead letters as a table."""
    return pa.Table.from_pylist([letter._asdict() for letter in letters], table_schemas.DEAD_LETTERS)


def write_letters(output: str, form: str, source: str, letters: Iterable[DeadLetter], place: str = "") -> str:
    """Writes the dead letters of one input file, in the order of their positions, unless they are there; where to.

    Args:
      place: of a window, as its files have it in their names.
    """
    table = letters_table(sorted(letters, key=lambda letter: (len(letter.position), letter.position)))
    name = "".join(c if c.isalnum() or c in "-._" else "_" for c in source.rsplit("/", 1)[-1]) or "rows"
    digest = uuid.uuid5(uuid.NAMESPACE_URL, source).hex[:8]
    path = FileSystems.join(output, "dead_letters", f"{name}-{digest}{place}.{form}")
    write_once(path, tables.encode(table, form))
    return str(path)
