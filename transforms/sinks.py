"""WriteSummaries: one file a table, window and revision, written once.

A file is written under a temporary name and then moved; the first decision stays. Files of a summary are moved in the
order coreset, centers, summaries, so whoever sees a window's row in `summaries` finds the rest.
"""
import errno
import os
import pathlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import IntervalWindow

from beam_coresets import tables
from beam_coresets.summary import Summary
from beam_coresets.transforms.reading.columns import DeadLetter

ORDER = ("coreset", "centers", "summaries")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # as on FAT and some network drives


def write_once(path: str, data: bytes) -> bool:
    """Creates a file with this content unless there is one; says whether it did. Local creation is atomic.

    On other filesystems, and on drives without hard links, it is a check and a move: two writers at the same moment may
    both succeed, the later one replacing equal content.
    """
    if FileSystems.exists(path):
        return False
    folder, name = FileSystems.split(path)
    _make_folder(folder)
    temporary = FileSystems.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        with FileSystems.create(temporary, mime_type="application/octet-stream") as file:
            file.write(data)
        if is_local(path):
            os.link(temporary, path)
        else:
            FileSystems.rename([temporary], [path])
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(temporary, path)
    finally:
        if is_local(path):
            pathlib.Path(temporary).unlink(missing_ok=True)
    return True


def is_local(path: str) -> bool:
    """Whether a path is on this machine's own filesystem."""
    return "://" not in path


def _make_folder(folder: str) -> None:
    if is_local(folder):
        os.makedirs(folder, exist_ok=True)


def files_of(folder: str, name: str, ending: str = "") -> list[str]:
    """The files of one table under an output folder, in name order.

    Raises:
      ValueError: the folder's name looks like a glob: Beam has no way to quote it.
    """
    if set("*?[") & set(folder):
        raise ValueError(f"output: must not have *, ? or [ in its name, got {folder!r}")
    pattern = FileSystems.join(folder, name, f"*{ending}")
    return sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)


def read_table(folder: str, name: str) -> pa.Table:
    """All files of one table under an output folder, of whichever format, in name order and with the table's types.

    Raises:
      ValueError: there is no such table.
    """
    found = []
    for form in tables.FORMATS:
        found += [(path, form) for path in files_of(folder, name, f".{form}")]
    if not found:
        raise ValueError(f"input: must hold a {name} table, got {folder!r} without {name}/*.avro, *.parquet or *.jsonl")
    parts = []
    for path, form in sorted(found):
        with FileSystems.open(path, compression_type="uncompressed") as file:
            parts.append(_typed(tables.decode(file.read(), form), name))
    return pa.concat_tables(parts, promote_options="permissive")


def _typed(table: pa.Table, name: str) -> pa.Table:
    """With the types of the known columns, which Avro and JSON lines leave to be guessed from the rows, if any."""
    for i, field in enumerate(tables.SCHEMAS.get(name, ())):
        if field.name in table.column_names:
            column = table.column(field.name).cast(field.type)
            table = table.set_column(table.column_names.index(field.name), field, column)
        else:
            table = table.add_column(i, field, pa.nulls(len(table), field.type))
    return table


@beam.typehints.with_input_types(Summary)
@beam.typehints.with_output_types(str)
class WriteSummaries(beam.PTransform):
    """Summaries -> the paths of the files written.

    Args:
      output: a folder on any Beam filesystem; the tables become folders in it.
      form: "avro", "parquet" or "jsonl".
      wanted: which tables.

    Raises:
      ValueError: an unknown format.
    """

    def __init__(self, output: str, form: str = "avro", wanted: tuple[str, ...] = ORDER) -> None:
        super().__init__()
        if form not in tables.FORMATS:
            raise ValueError(f"format: must be one of {', '.join(tables.FORMATS)}, got {form!r}")
        self._output, self._form = output, form
        self._wanted = tuple(name for name in ORDER if name in wanted)

    def expand(self, summaries: Any) -> Any:
        return summaries | "Write tables" >> beam.ParDo(_WriteTables(self._output, self._form, self._wanted))

    def display_data(self) -> dict[str, Any]:
        return {"output": self._output, "format": self._form}


class _WriteTables(beam.DoFn):
    def __init__(self, output: str, form: str, wanted: tuple[str, ...]) -> None:
        self._output, self._form, self._wanted = output, form, wanted
        self._written = Metrics.counter("beam_coresets", "files_written")
        self._repeated = Metrics.counter("beam_coresets", "decisions_dropped")

    def process(self, summary: Summary) -> Iterator[str]:
        paths = {name: FileSystems.join(self._output, name, f"{summary.window.name}.{self._form}") for name in ORDER}
        if FileSystems.exists(paths[self._wanted[-1]]):
            self._repeated.inc()  # decided before: all of it stays
            return
        for name in self._wanted:
            data = tables.encode(summary.table(name), self._form)
            if name != self._wanted[-1] and FileSystems.exists(paths[name]):
                FileSystems.delete([paths[name]])  # of an attempt that did not live to write its summary
            if write_once(paths[name], data):
                self._written.inc()
                yield paths[name]
            else:
                self._repeated.inc()


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
        ordered = sorted(letters, key=lambda letter: (len(letter.position), letter.position))
        table = pa.Table.from_pylist([letter._asdict() for letter in ordered], _LETTERS)
        name = "".join(c if c.isalnum() or c in "-._" else "_" for c in source.rsplit("/", 1)[-1]) or "rows"
        digest = uuid.uuid5(uuid.NAMESPACE_URL, source).hex[:8]
        place = f"-{float(window.start):.3f}-{float(window.end):.3f}" if isinstance(window, IntervalWindow) else ""
        path = FileSystems.join(self._output, "dead_letters", f"{name}-{digest}{place}.{self._form}")
        write_once(path, tables.encode(table, self._form))
        yield path
