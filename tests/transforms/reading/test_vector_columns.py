"""Parquet columns of lists: rows are what was written, and those that are no vectors are refused by number."""
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns

LATE = [[1.0, 2.0]] * 5000
IRREGULAR = {
    "widths that add up": [*LATE, [1.0], [2.0, 3.0, 4.0], *LATE],
    "an empty and a wide one": [*LATE, [], [1.0, 2.0, 3.0], *LATE],
    "null elements": [*LATE, [None, 1.0], [1.0, None], *LATE],
    "null rows": [*LATE, None, [1.0, 2.0, 3.0], *LATE],
}


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_rows_that_are_no_vectors_are_refused_wherever_they_stand(tmp_path, monkeypatch, kind, version):
    rows = IRREGULAR[kind]
    table = pa.table({"v": pa.array(rows, pa.list_(pa.float32())), "n": range(len(rows))})
    pq.write_table(table, tmp_path / "a.parquet", data_page_size=500, write_batch_size=100, data_page_version=version)
    monkeypatch.setattr("beam_coresets.points.block.MAX_BLOCK_ROWS", 1000)
    found = list(ReadBlocks(str(tmp_path / "a.parquet"), Columns(vector_column="v", keep_columns=("n",))).here())
    blocks = [f for f in found if isinstance(f, PointBlock)]
    good = [i for i, row in enumerate(rows) if row is not None and len(row) == 2 and None not in row]
    assert [i for b in blocks for i in b.extras.column("n").to_pylist()] == good
    np.testing.assert_array_equal(np.concatenate([b.points for b in blocks]), [rows[i] for i in good])
    assert [f.position for f in found if not isinstance(f, PointBlock)] == ["row 5000", "row 5001"]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_vectors_come_with_their_ids_over_row_groups(tmp_path, fixed, use_dictionary, metric):
    rows = generator("taken").normal(size=(5000, 16)).astype(np.float32)
    kind = pa.list_(pa.float32(), 16) if fixed else pa.list_(pa.float32())
    table = pa.table({"v": pa.array(list(rows), kind), "name": [str(i) for i in range(5000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1500, use_dictionary=use_dictionary)
    columns = Columns(vector_column="v", id_column="name", metric=metric)
    (block,) = ReadBlocks(str(tmp_path / "a.parquet"), columns).here()
    expected = rows if metric == "euclidean" else rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(block.points, expected, rtol=1e-6)
    assert block.extras.column("id").to_pylist() == [str(i) for i in range(5000)]
