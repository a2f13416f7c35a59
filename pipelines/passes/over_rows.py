"""Passes over the data whose small results come back to whoever runs the job."""
import dataclasses
import tempfile
import uuid
from typing import Any, TypeVar

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.pvalue import PCollection

from beam_coresets import codec
from beam_coresets.assigning.dual_prices import Survey
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.options import DataOptions
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.running import launch, local
from beam_coresets.points.block import PointBlock
from beam_coresets.points.column_order import Names, listed, names_of_each, places_of
from beam_coresets.points.scale import Scale
from beam_coresets.transforms.base.bad_rows import Found, gate
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import SchemaError
from beam_coresets.transforms.rows.scaling import ScaleBlocks
from beam_coresets.transforms.writing.atomic_files import write_once

_RECORDS = (Scale, Survey)
LOCAL_RUNNERS = (local.IN_PROCESS, "BundleBasedDirectRunner", "PrismRunner")
Data = TypeVar("Data", bound=DataOptions)


class Result:
    """A value that a pipeline makes, brought back by a file, as workers may be other processes.

    Args:
      folder: where to put it if workers may be on other machines.
    """

    def __init__(self, beam_options: PipelineOptions, folder: str) -> None:
        local = beam_options.view_as(StandardOptions).runner in LOCAL_RUNNERS
        self._path = FileSystems.join(tempfile.gettempdir() if local else folder, f".pass-{uuid.uuid4().hex}.bcs")

    def keep(self, values: PCollection, *gate: Any) -> PCollection:
        """Keeps the one value of a PCollection, once the side inputs `gate` are there."""
        path = self._path  # a lambda has no annotations: Beam 2.62 refuses those of `*gate`
        return values | "Keep" >> beam.Map(lambda value, *_: _keep(value, path), *gate)

    def get(self) -> Any:
        """The value, after the pipeline has run."""
        with FileSystems.open(self._path, compression_type="uncompressed") as file:
            value = value_of(file.read())
        FileSystems.delete([self._path])
        return value


def _keep(value: Any, path: str) -> None:
    write_once(path, bytes_of(value))


def bytes_of(value: Any) -> bytes:
    """A result as bytes: numbers, text, arrays, `Scale` and `Survey`, in tuples, lists and dicts of each other."""
    arrays: dict[str, Any] = {}

    def plain(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            arrays[str(len(arrays))] = part
            return ["array", str(len(arrays) - 1)]
        if type(part) in _RECORDS:
            return [type(part).__name__, *(plain(getattr(part, field.name)) for field in dataclasses.fields(part))]
        if isinstance(part, (tuple, list)):
            return [type(part).__name__, *map(plain, part)]
        if isinstance(part, dict):
            return ["dict", *([plain(key), plain(one)] for key, one in part.items())]
        return part.item() if isinstance(part, np.generic) else part

    fields = {"value": plain(value)}
    return codec.pack("Pass", fields, arrays)


@codec.decoder("Pass")
def value_of(data: bytes) -> Any:
    """What `bytes_of` was given. The file may be where others write: nothing in it is run."""
    fields, arrays = codec.unpack(data, "Pass")
    records = {kind.__name__: kind for kind in _RECORDS}

    def whole(part: Any) -> Any:
        if not isinstance(part, list):
            return part
        name, *rest = part
        if name == "array":
            return arrays[rest[0]]
        if name == "dict":
            return {whole(key): whole(one) for key, one in rest}
        found = tuple(map(whole, rest))
        return records[name](*found) if name in records else list(found) if name == "list" else found

    return whole(fields["value"])


def blocks_of(
    known: DataOptions, pipeline: beam.Pipeline, scale: Scale | None
) -> tuple[PCollection, PCollection]:
    """The data's blocks, in scaled units if there is a scale, and its dead letters."""
    read = pipeline | "Read" >> ReadBlocks(known.input, options.columns_of(known), known.input_format)
    blocks = read["blocks"]
    if scale is not None:
        blocks = blocks | "ScaleBlocks" >> beam.ParDo(ScaleBlocks(), scale).with_output_types(PointBlock)
    return blocks, read["dead_letters"]


def combine_blocks(
    known: DataOptions,
    beam_options: PipelineOptions,
    scale: Scale | None,
    console: Terminal,
    folder: str,
    combine: beam.CombineFn,
    max_bad_rows: int,
) -> tuple[Any, Found]:
    """What a CombineFn makes of all blocks, in one pass over the data, and which rows were refused.

    Raises:
      JobError: the pass failed, or refused more rows than `max_bad_rows`.
    """
    pipeline, result = beam.Pipeline(options=beam_options), Result(beam_options, folder)
    blocks, letters = blocks_of(known, pipeline, scale)
    refused = gate(letters, max_bad_rows)
    both = blocks | "Combine" >> beam.CombineGlobally(combine) | "With refused" >> beam.Map(_pair, *refused)
    result.keep(both)
    launch.run(pipeline, 1, console.aside)
    value, found = result.get()
    return value, found


def _pair(value: Any, refused: Found) -> tuple[Any, Found]:
    return value, refused


def source_by_name(known: Data, columns: Names, dim: int, whose: str) -> tuple[Data, ReadBlocks]:
    """The data, with coordinates in the order that results have them in; and the options that say so.

    Args:
      columns: the names of a row of `summaries`; None where there are none, and data go by position.
      dim: coordinates of the results.
      whose: results, for messages: "the centers".

    Raises:
      ValueError: data that can't be read, or without one of the columns.
    """
    names = names_of_each(columns, dim)
    if names is None or known.vector_column:
        return _checked(known, _source(known), dim, whose)
    asked = known if known.columns is not None else dataclasses.replace(known, columns=names)
    try:
        source = _source(asked)
    except SchemaError:
        source = _source(known)  # what there is instead, or its own error
        if source.layout.named and set(names) <= set(source.layout.file_columns):
            raise
    if not source.layout.named:
        return _checked(known, _source(known), dim, whose)
    if places_of(source.layout.names, names, whose) is not None:
        asked = dataclasses.replace(known, columns=names)
        source = _source(asked)
    return _checked(asked, source, dim, whose)


def _source(known: DataOptions) -> ReadBlocks:
    return ReadBlocks(known.input, options.columns_of(known), known.input_format)


def _checked(known: Data, source: ReadBlocks, dim: int, whose: str) -> tuple[Data, ReadBlocks]:
    if source.dim == dim:
        return known, source
    got = f"{source.dim} ({listed(source.layout.coordinates)})"
    raise ValueError(f"columns: must be the {dim} coordinates of {whose}, got {got}")
