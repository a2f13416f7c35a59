"""WriteSummaries: the tables of each window and revision, of the decision that came first; and reading them back."""
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import IntervalWindow

from beam_coresets import tables
from beam_coresets.summary import Summary
from beam_coresets.transforms.atomic_files import read, write_once
from beam_coresets.transforms.claims import ORDER, Claims, place_of
from beam_coresets.transforms.reading.columns import DeadLetter


def files_of(folder: str, name: str, ending: str = "") -> list[str]:
    """The files of one table under an output folder, those in folders of days too, in the order of their windows.

    Raises:
      ValueError: the folder's name looks like a glob: Beam has no way to quote it.
    """
    if set("*?[") & set(folder):
        raise ValueError(f"output: must not have *, ? or [ in its name, got {folder!r}")
    pattern = FileSystems.join(folder, name, f"**{ending}")
    return sorted((found.path for found in FileSystems.match([pattern])[0].metadata_list), key=place_of)


def read_table(folder: str, name: str) -> pa.Table:
    """All files of one table under an output folder, of whichever formats, in the order of their windows.

    Known columns have the table's types.

    Raises:
      ValueError: there is no such table.
    """
    found = []
    for form in tables.FORMATS:
        found += [(path, form) for path in files_of(folder, name, f".{form}")]
    if not found:
        raise ValueError(f"input: must hold a {name} table, got {folder!r} without {name}/*.avro, *.parquet or *.jsonl")
    parts = []
    for path, form in sorted(found, key=lambda each: place_of(each[0])):
        parts.append(tables.typed(tables.decode(read(path), form), name))
    return pa.concat_tables(parts, promote_options="permissive")


class Written(NamedTuple):
    """What `WriteSummaries` returns.

    Attributes:
      paths: of the files of claimed decisions.
      claimed: the Summaries whose decision is the claimed one. Once each, and again where a runner tries again.
      windows: (replica, Window) of every Summary that came, dropped or not; all of them have a claimed decision by now.
    """

    paths: PCollection
    claimed: PCollection
    windows: PCollection


@beam.typehints.with_input_types(Summary)
class WriteSummaries(beam.PTransform):
    """Summaries -> `Written`: the first decision of a window and revision is put in the tables, others are dropped.

    Args:
      output: a folder on a filesystem with an atomic create; the tables become folders in it (see
        `beam_coresets.transforms.claims`).
      form: "avro", "parquet" or "jsonl".
      wanted: which tables.

    Raises:
      ValueError: an unknown format, or a filesystem on which the first decision can't be told.
    """

    def __init__(self, output: str, form: str = "avro", wanted: tuple[str, ...] = ORDER) -> None:
        super().__init__()
        self.claims = Claims(output, form, wanted)

    def expand(self, summaries: Any) -> Any:
        done = summaries | "Write tables" >> beam.ParDo(_WriteTables(self.claims)).with_outputs(
            "claimed", "windows", main="paths"
        )
        return Written(done.paths, done.claimed, done.windows)

    def display_data(self) -> dict[str, Any]:
        return {"output": self.claims.output, "format": self.claims.form}


class _WriteTables(beam.DoFn):
    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._written = Metrics.counter("beam_coresets", "files_written")
        self._claimed = Metrics.counter("beam_coresets", "decisions_claimed")
        self._dropped = Metrics.counter("beam_coresets", "decisions_dropped")

    def process(self, summary: Summary) -> Iterator[Any]:
        if self._claims.publish(summary):
            self._claimed.inc()
            for path in self._claims.paths(summary.window):
                self._written.inc()
                yield path
            yield TaggedOutput("claimed", summary)
        else:
            self._dropped.inc()
        yield TaggedOutput("windows", (summary.replica, summary.window))


_LETTERS = pa.schema([(name, pa.string()) for name in DeadLetter._fields])


@beam.typehints.with_input_types(DeadLetter)
@beam.typehints.with_output_types(str)
class WriteDeadLetters(beam.PTransform):
    """Dead letters -> the paths of files in `output`/dead_letters, one for each input file and window that had any.

    Args:
      output, form: as for `WriteSummaries`.
    """

    def __init__(self, output: str, form: str = "avro") -> None:
        super().__init__()
        self._output, self._form = output, form

    def expand(self, letters: Any) -> Any:
        return (
            letters
            | "Key by source" >> beam.Map(lambda letter: (letter.source, letter))
            | "Gather by source" >> beam.GroupByKey()
            | "Write letters" >> beam.ParDo(_WriteLetters(self._output, self._form))
        )


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
    return pa.Table.from_pylist([letter._asdict() for letter in letters], _LETTERS)


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
