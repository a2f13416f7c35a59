"""AssignRows and its files: every row once with its cluster, whatever the runner does with the blocks."""
import dataclasses

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from jobs import CENTERS, TWO_WORKERS, clusters, counters, parts_of, run

from beam_coresets import tables
from beam_coresets.assigning.cluster_assignment import Priced
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.points.nearest import nearest_numpy
from beam_coresets.points.scale import Scale
from beam_coresets.transforms.rows import assign_rows
from beam_coresets.transforms.rows.assign_rows import AssignRows, SizesOfClusters, WriteAssigned, printed_ids
from beam_coresets.transforms.writing.stored_tables import read_table

N = 2000


def labelled(blocks):
    """With a label, an own id and a kept column."""
    for block in blocks:
        ids = block.ids.tolist()
        extras = pa.table({"id": [f"row {i}" for i in ids], "group": ["ab"[i % 2] for i in ids], "kept": ids})
        yield dataclasses.replace(block, extras=extras)


def assigned(blocks, *arguments, options=(), shuffled=False, **keywords):
    """(all tables as one, the result)."""

    def build(pipeline):
        made = pipeline | beam.Create(blocks)
        made = made | beam.Reshuffle() if shuffled else made
        return {"rows": made | AssignRows(*arguments, **keywords)}

    held, result = run(build, *([options] if options else []))
    return pa.concat_tables([rows.table for rows in held["rows"]]), result


@pytest.mark.parametrize(("z", "metric"), [(2.0, "euclidean"), (1.0, "euclidean"), (2.0, "cosine")])
def test_rows_have_the_nearest_center_and_what_they_came_with(z, metric):
    blocks = parts_of(clusters(N))
    points, ids = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("points", "ids"))
    table, result = assigned(list(labelled(blocks)), CENTERS, z, metric)
    assert table.column_names == ["id", "cluster", "distance", "group_label", "kept"]
    assert sorted(table.column("kept").to_pylist()) == sorted(ids.tolist())
    by_id = dict(zip(ids.tolist(), zip(*nearest_numpy(points, CENTERS), strict=True), strict=True))
    for row in table.to_pylist():
        cluster, away = by_id[row["kept"]]
        assert (row["id"], row["group_label"], row["cluster"]) == (f"row {row['kept']}", "ab"[row["kept"] % 2], cluster)
        assert row["distance"] == pytest.approx(away / 2 if metric == "cosine" else away**0.5, rel=1e-5)
    assert counters(result)["rows_assigned"] == N


def test_prices_and_labels_by_way_of_beam():
    """Of label "b" nobody wants the second cluster."""
    prices = np.array([[0.0, 0, 0, 0], [0, 1e9, 0, 0]])
    table, _ = assigned(list(labelled(parts_of(clusters(N)))), Priced(CENTERS, prices, ("a", "b")))
    cluster, label = table.column("cluster").to_numpy(), np.array(table.column("group_label").to_pylist())
    assert not (cluster[label == "b"] == 1).any()
    assert (cluster[label == "a"] == 1).any()


def test_blocks_are_brought_to_the_scale_of_the_centers():
    scale = Scale((1.0, 2.0, 3.0), (10.0, 1.0, 0.5))
    blocks = parts_of(clusters(N))
    table, _ = assigned(blocks, scale.apply(CENTERS), scale=scale)
    points = np.concatenate([block.points for block in blocks])
    index, dist_sq = nearest_numpy(scale.apply(points), scale.apply(CENTERS))
    assert np.array_equal(table.column("cluster").to_numpy(), index)
    assert table.column("distance").to_numpy() == pytest.approx(np.sqrt(dist_sq), rel=1e-4)


def test_printed_ids():
    ids = np.array([3 << 32 | 7, 9 << 32 | 1, 3 << 32], np.uint64)
    assert printed_ids(ids, {3: "a.csv", 9: "b/c.csv"}).to_pylist() == ["a.csv#7", "b/c.csv#1", "a.csv#0"]
    assert printed_ids(ids[:1], {3: "a.csv"}).to_pylist() == ["a.csv#7"]
    assert printed_ids(ids, {3: "a.csv"}).to_pylist() == ["a.csv#7", f"{9 << 32 | 1:016x}", "a.csv#0"]
    assert printed_ids(ids[:0], {}).to_pylist() == []


def test_sizes_are_those_of_the_rows():
    weights = np.arange(N) % 3 / 2
    blocks = list(labelled(parts_of(clusters(N), weights=weights)))

    def build(pipeline):
        rows = pipeline | beam.Create(blocks) | beam.Reshuffle() | AssignRows(CENTERS, z=1.0)
        return {"rows": rows, "by label": rows | "L" >> beam.CombineGlobally(SizesOfClusters(4, 1.0, labelled=True)),
                "all": rows | "A" >> beam.CombineGlobally(SizesOfClusters(4, 1.0))}  # fmt: skip

    held, _ = run(build)
    expected = np.zeros((2, 3, 4))
    for rows in held["rows"]:
        for row, weight in zip(rows.table.to_pylist(), rows.weights, strict=True):
            own = expected["ab".index(row["group_label"]), :, row["cluster"]]
            own += [weight, 1, weight * row["distance"]]
    assert held["by label"][0]["a"] == pytest.approx(expected[0])
    assert held["by label"][0]["b"] == pytest.approx(expected[1])
    assert held["all"][0][""] == pytest.approx(expected.sum(axis=0))


def blocks_of_part(part):
    """The three blocks of one of three parts, as a source reads them."""
    return [block for block in parts_of(clusters(N), parts=3, rows=300) if block.span.part == part]


def write(folder, blocks, form="parquet", shuffled=False, options=()):
    """The paths of the files of some blocks; of three parts that are read, without blocks."""

    def build(pipeline):
        if blocks is None:
            read = beam.FlatMap(blocks_of_part).with_output_types(PointBlock)
            made = pipeline | beam.Create([0, 1, 2]) | beam.Reshuffle() | read
        else:
            made = pipeline | beam.Create(blocks)
        made = made | beam.Reshuffle() if shuffled else made
        return {"paths": made | AssignRows(CENTERS) | WriteAssigned(str(folder), form)}

    held, _ = run(build, *([options] if options else []))
    return sorted(held["paths"])


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_all_rows_are_in_the_files_once(tmp_path, form):
    blocks = list(labelled(parts_of(clusters(N))))
    paths = write(tmp_path, blocks, form)
    assert paths == sorted(str(path) for path in (tmp_path / "assigned").iterdir())
    rows = read_table(str(tmp_path), "assigned").to_pylist()
    assert sorted(row["kept"] for row in rows) == sorted(i for block in blocks for i in block.ids.tolist())
    assert [path.name for path in tmp_path.iterdir()] == ["assigned"]


def test_files_are_of_the_parts_and_the_same_every_time(tmp_path, monkeypatch):
    """A part's blocks one after the other, two in a file, as a source gives them."""
    monkeypatch.setattr(assign_rows, "BLOCKS_A_FILE", 2)
    names = [f"part-{part:05d}-{first:05d}.parquet" for part in range(3) for first in (0, 2)]
    for folder, options in (("one", ()), ("two", TWO_WORKERS)):
        assert [path.rsplit("/", 1)[1] for path in write(tmp_path / folder, None, options=options)] == names
    for name in names:
        one, two = (tmp_path / folder / "assigned" / name for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_rows_are_in_files_once_where_bundles_break_parts_apart(tmp_path):
    blocks = list(labelled(parts_of(clusters(N), rows=100)))
    write(tmp_path, blocks, shuffled=True, options=TWO_WORKERS)
    rows = read_table(str(tmp_path), "assigned").to_pylist()
    assert sorted(row["kept"] for row in rows) == sorted(i for block in blocks for i in block.ids.tolist())


def test_blocks_without_rows_leave_nothing(tmp_path):
    empty = PointBlock(np.empty((0, 3), np.float32), np.empty(0), np.empty(0, np.uint64), Span(0, 0, True))
    assert write(tmp_path, [empty]) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_seen_of_a_job_that_fails(tmp_path):
    wide = PointBlock(np.zeros((5, 4), np.float32), np.ones(5), np.arange(5, dtype=np.uint64), Span(9, 0, True))
    with pytest.raises(Exception, match="centers: must have the points' 4 columns, got 3"):
        write(tmp_path, [*parts_of(clusters(N)), wide])
    assert not (tmp_path / "assigned").exists()


def test_an_unknown_format():
    with pytest.raises(ValueError, match="format: must be one of parquet, avro, jsonl, got 'csv'"):
        WriteAssigned("out", "csv")
