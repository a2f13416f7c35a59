"""Avro files to batches of rows."""
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from beam_coresets.bounded import AvroBlock, AvroReader
from beam_coresets.transforms.planned import avro_records
from beam_coresets.transforms.planned.cells import PlannedColumns, fits
from beam_coresets.transforms.reading.columns import Columns, Layout
from beam_coresets.transforms.reading.coordinates import Batch, OneByOne
from beam_coresets.transforms.reading.formats import (
    SAMPLE_ROWS,
    FilePart,
    Format,
    Report,
    open_bytes,
    python_batch,
    python_column,
)
from beam_coresets.transforms.reading.types import avro
from beam_coresets.transforms.text.ranges import END, Counted

_ROWS = 8192
_LEAST_PLANNED = 1 << 20  # bytes of a file; with fewer it takes longer to load a kernel, or even to compile it


def _avro_schema(reader: Any) -> pa.Schema:
    schema = reader.writer_schema
    if not isinstance(schema, dict) or "fields" not in schema:
        raise ValueError("schema: must be a record")
    return avro.arrow_schema(schema)


def _probe_avro(path: str, options: Columns) -> tuple[Any, Any]:
    with open_bytes(path) as file:
        reader = AvroReader(file)
        schema, sample = _avro_schema(reader), None
        if options.vector_column in schema.names:
            field = schema.field(options.vector_column)
            cells = [record[field.name] for record in itertools.islice(reader, SAMPLE_ROWS)]
            sample = pa.record_batch([python_column(cells, field.type)[0]], names=[field.name])
        return schema, sample


def _plan(schema: Any, layout: Layout) -> avro_records.AvroPlan | None:
    """The plan for a file's records; None where it has none, or a type needs another look."""
    plan = avro_records.plan_of(schema, layout.needed)
    kept = set(layout.options.keep_columns).difference(layout.used)
    if plan is None:
        return None
    kinds = [plan.kinds.get(field.name, pa.null()) for field in layout.schema]
    each = zip(kinds, layout.schema, strict=True)
    return plan if all(fits(kind, field.type, field.name in kept) for kind, field in each) else None


def _read_avro(part: FilePart, layout: Layout, report: Report) -> Iterator[Batch]:
    """Blocks by a plan where they have one, or else record by record."""
    with open_bytes(part.path) as file:
        reader = AvroReader(file)
        layout.check(_avro_schema(reader), part.path)
        plan, row = None, part.row or 0
        if part.row is not None:
            reader.go_to(part.start, part.stop)
        if part.stop - part.start >= _LEAST_PLANNED:
            plan = _plan(reader.writer_schema, layout)
        for blocks in _groups(reader.blocks()):
            found = None if plan is None else avro_records.read_run(plan, [(each.count, each.data) for each in blocks])
            if found is not None:
                batch = _planned(found, blocks, layout, part, row)
                yield batch
                row += len(batch)
                continue
            records = itertools.chain.from_iterable(block.records() for block in blocks)
            while some := list(itertools.islice(records, _ROWS)):
                yield python_batch(some, layout, np.arange(row, row + len(some)), part.path, part.key)
                row += len(some)
    part.check(row)


def _count_avro(part: FilePart, layout: Layout, exact: bool) -> list[Counted]:
    with open_bytes(part.path) as file:
        reader = AvroReader(file)
        start: int | None = part.start
        if part.start and not exact:
            start = reader.behind_sync(part.start, part.stop)
        found = None if start is None else reader.count(start, part.stop)
        if start is None or found is None:
            return [Counted(part.start, 0, END)] if exact or not part.start else []
        rows, behind = found
        return [Counted(start, rows, END if behind is None else behind)]


def _groups(blocks: Iterator[AvroBlock]) -> Iterator[list[AvroBlock]]:
    """Blocks that together have some thousand records."""
    group: list[AvroBlock] = []
    count = 0
    for block in blocks:
        group.append(block)
        count += block.count
        if count >= _ROWS:
            yield group
            group, count = [], 0
    if group:
        yield group


def _planned(
    found: PlannedColumns, blocks: list[AvroBlock], layout: Layout, part: FilePart, row: int
) -> Batch:
    @functools.cache
    def plain() -> list[Any]:
        return [record for block in blocks for record in block.records()]

    columns = pa.record_batch({field.name: found.fitted(field.name, field.type) for field in layout.schema})
    raw = OneByOne(lambda i: plain()[i], found.rows)
    return Batch(columns, row + found.rows, part.path, part.key, raw=raw)


AVRO = Format("Avro", (".avro",), False, True, _probe_avro, _read_avro, count=_count_avro)
