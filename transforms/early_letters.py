"""Dead letters of a job that is ended once its answer is there: written before the reports that they come with leave.

What a runner gathers until all is done would be lost with the job. All holders of a part tell what was refused in it,
as one that is chosen may be stuck; whoever ends the job takes each letter once.
"""
import hashlib
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets import tables
from beam_coresets.transforms import atomic_files
from beam_coresets.transforms.reading.columns import DeadLetter
from beam_coresets.transforms.sinks import letters_table, write_letters

FOLDER = (".staging", "letters")
_FORM = "jsonl"


@beam.typehints.with_input_types(DeadLetter)
class WriteLettersEarly(beam.PTransform):
    """Dead letters -> nothing: each bundle's are in a file of their own, named by its content, when the bundle ends.

    Args:
      output: where the job's tables are.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self._output = output

    def expand(self, letters: Any) -> Any:
        return letters | "Write early" >> beam.ParDo(_Write(self._output)).with_output_types(str)


class _Write(beam.DoFn):
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
