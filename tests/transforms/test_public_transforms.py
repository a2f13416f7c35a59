"""Every public transform: typed, shown, documented, with an example that works.

`expand` says what goes in and out. Beam reads that as type hints, and warns where the output is no PCollection. Text in
place of a type is Any to it, so such outputs are written as text.
"""
import importlib
import inspect
import logging
import re
import textwrap

import apache_beam as beam
import house
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.display import DisplayData
from jobs import LOCAL, clusters, columns_of, write_parquet

import beam_coresets
from beam_coresets import transforms
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.streaming.cursor import Completeness
from beam_coresets.transforms.shards.shard_restriction import Reading
from beam_coresets.transforms.streams.folder.files import FileParts

EXAMPLE = re.compile(r"^Example( \((?P<note>.+)\))?:\n(?P<code>(  .+\n?)+)", re.M)


def public_transforms():
    """Name -> class of all PTransforms without an underscore in `beam_coresets.transforms`."""
    found = {}
    for name in house.modules():
        if name.startswith("beam_coresets.transforms.") and not name.endswith("__init__"):
            for value in vars(importlib.import_module(name)).values():
                if inspect.isclass(value) and issubclass(value, beam.PTransform) and value.__module__ == name:
                    found[value.__name__] = value
    return {name: value for name, value in found.items() if not name.startswith("_")}


TRANSFORMS = public_transforms()
EACH = pytest.mark.parametrize("name", sorted(TRANSFORMS))


def test_they_are_found():
    assert len(TRANSFORMS) >= 28
    assert {"Summarize", "ReadPubSub", "WriteToKafka"} <= set(TRANSFORMS)
    public = {name for name in transforms.__all__ if inspect.isclass(getattr(transforms, name))}
    assert {name for name in public if issubclass(getattr(transforms, name), beam.PTransform)} <= set(TRANSFORMS)


@EACH
def test_expand_says_what_goes_in_and_out(name, caplog):
    signature = inspect.signature(TRANSFORMS[name].expand)
    (_, given) = signature.parameters.values()
    assert given.annotation is PBegin or given.annotation.__origin__ is PCollection, "one PCollection, or the beginning"
    out = signature.return_annotation
    assert isinstance(out, str) or out.__origin__ is PCollection, "a PCollection, or several, as text"
    hints = beam.typehints.decorators.IOTypeHints.from_callable(TRANSFORMS[name].expand.__get__(object()))
    with caplog.at_level(logging.WARNING):
        hints.strip_pcoll()
    assert not caplog.records, "Beam must be able to read the hints"


@EACH
def test_docstrings_are_complete(name):
    cls = TRANSFORMS[name]
    said = inspect.cleandoc(cls.__doc__)
    assert cls.__init__ is beam.PTransform.__init__ or "\nArgs:\n" in said
    missing = [p for p in list(inspect.signature(cls).parameters) if not re.search(rf"\b{p}\b", said)]
    assert not missing, "parameters"
    assert "\nSource: " in said
    assert EXAMPLE.search(said)


@EACH
def test_display_data_is_its_own(name):
    assert TRANSFORMS[name].display_data is not beam.PTransform.display_data


@EACH
def test_examples_work(name, tmp_path, monkeypatch, capsys):
    """They run in this process; of streams without an end, and where a broker is needed, the graph is made."""
    found = EXAMPLE.search(inspect.cleandoc(TRANSFORMS[name].__doc__))
    note = found["note"] or ""
    assert note in ("", "a stream without an end", "a broker is needed") or note.startswith("not run: ")
    if note.startswith("not run"):
        pytest.skip(note)
    if name == "WriteToKafka":
        pytest.importorskip("confluent_kafka")
    monkeypatch.chdir(tmp_path)
    points = clusters(400)
    write_parquet(tmp_path / "points", columns_of(points), files=2)
    named = {f"x{j}": axis for j, axis in enumerate("xyz")}
    for path in (tmp_path / "points").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([named[n] for n in table.column_names]), path)
    p = beam.Pipeline(options=PipelineOptions([*LOCAL]))
    rows = [{"name": "a", **dict(zip("xyz", point, strict=True))} for point in points.tolist()]
    code = textwrap.dedent(found["code"])
    names = {
        **{name: getattr(door, name) for door in (beam_coresets, transforms) for name in door.__all__},
        **TRANSFORMS, **vars(importlib.import_module(TRANSFORMS[name].__module__)),
        "Completeness": Completeness, "FileParts": FileParts, "Reading": Reading,
        "beam": beam, "np": np, "pa": pa, "p": p, "points": points,
        "rows": p | "Rows" >> beam.Create(rows),
        "blocks": p | "Blocks" >> beam.Create(list(blocks_of(points, rows=200))).with_output_types(PointBlock),
    }  # fmt: skip
    exec(compile(code, name, "exec"), names)
    assert name in {type(t).__name__ for t in applied(p)}
    for transform in applied(p):
        if type(transform) is TRANSFORMS[name]:
            assert DisplayData.create_from(transform).items
    if not note:
        p.run().wait_until_finish()
        assert "print" not in code or capsys.readouterr().out


def applied(pipeline):
    """All transforms of a pipeline."""
    found = []

    class Visitor(beam.pipeline.PipelineVisitor):
        def enter_composite_transform(self, node):
            found.append(node.transform)

        def visit_transform(self, node):
            found.append(node.transform)

    pipeline.visit(Visitor())
    return found
