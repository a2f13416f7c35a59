"""WriteByTime: rows of a stream (dead letters, late reports) to files, some seconds' worth in each, whatever the
watermark does: a shard that is dead for good must not keep back what the others have refused."""
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder, PickleCoder
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from beam_coresets import table_schemas, tables
from beam_coresets.transforms.writing import atomic_files

LANES = 4
MOST_ROWS = 10_000


class WriteByTime(beam.PTransform):
    """Rows -> the paths of files `output`/`name`/day=.../<time>-<digest>.`form`.

    At least once: what a runner does again it writes again. A file is named by its content. Rows that are alike in
    all fields are written once a file: every holder of a part tells what was refused in it.

    Args:
      output: a folder. name: of the table. schema: of the rows, which are NamedTuples.
      form: "parquet", "avro" or "jsonl".
      seconds: for how long rows are gathered.
      clock: seconds since the epoch.

    Raises (while running):
      ValueError: an unknown format.
      OSError: the folder can't be written.

    Source: a timer in processing time for each of some lanes, and `atomic_files.create_exclusively`.

    Example (a stream without an end):
      made = rows | BlocksFromRows(Columns(columns=("x", "y", "z")))
      made["dead_letters"] | WriteByTime("out", "dead_letters", table_schemas.DEAD_LETTERS, "jsonl", seconds=10.0)
    """

    def __init__(
        self,
        output: str,
        name: str,
        schema: pa.Schema,
        form: str = "parquet",
        seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._shown = {"output": output, "table": name, "format": form, "seconds": seconds}
        self._write = _WriteByTime(output, name, schema, form, seconds, clock)

    def expand(self, rows: PCollection[Any]) -> PCollection[str]:
        return (
            rows
            | "Out of windows" >> beam.WindowInto(beam.window.GlobalWindows())
            | "Lane" >> beam.Map(_in_lane).with_output_types(tuple[int, Any])
            | "Write" >> beam.ParDo(self._write).with_output_types(str)
        )

    def display_data(self) -> dict[str, Any]:
        return self._shown


def _in_lane(row: Any) -> tuple[int, Any]:
    return hashlib.blake2b(repr(row).encode(), digest_size=1).digest()[0] % LANES, tuple(row)


class _WriteByTime(beam.DoFn):
    ROWS = BagStateSpec("rows", PickleCoder())
    COUNT = ReadModifyWriteStateSpec("count", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)

    def __init__(
        self, output: str, name: str, schema: pa.Schema, form: str, seconds: float, clock: Any
    ) -> None:
        self._output, self._name, self._schema = output, name, schema
        self._form, self._seconds, self._clock = form, seconds, clock

    def process(
        self,
        element: tuple[int, Any],
        rows: Any = beam.DoFn.StateParam(ROWS),
        count: Any = beam.DoFn.StateParam(COUNT),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[str]:
        rows.add(element[1])
        held = int(count.read() or b"0") + 1
        if held == 1:
            due.set(Timestamp.of(self._clock() + self._seconds))
        count.write(str(held).encode())
        if held >= MOST_ROWS:
            yield from self._flush(rows, count)

    @on_timer(DUE)
    def on_due(
        self, rows: Any = beam.DoFn.StateParam(ROWS), count: Any = beam.DoFn.StateParam(COUNT)
    ) -> Iterator[str]:
        yield from self._flush(rows, count)

    def _flush(self, rows: Any, count: Any) -> Iterator[str]:
        held = sorted(set(rows.read()), key=repr)
        rows.clear()
        count.clear()
        if not held:
            return
        columns = list(zip(*held, strict=True))
        table = pa.table([_column(c, f.type) for c, f in zip(columns, self._schema, strict=True)], self._schema)
        data, now = tables.encode(table, self._form), self._clock()
        day = np.datetime64(int(now // 86400), "D")
        file = f"{now:.3f}-{hashlib.sha256(data).hexdigest()[:16]}.{self._form}"
        path = FileSystems.join(self._output, self._name, f"day={day}", file)
        atomic_files.create_exclusively(path, data)
        yield path


def _column(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    if kind == table_schemas.INSTANT:
        return pa.array([None if v is None else v.micros for v in values], pa.int64()).cast(kind)
    return pa.array(values, kind)
