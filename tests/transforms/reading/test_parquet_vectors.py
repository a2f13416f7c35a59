"""Vectors straight from Parquet pages are what Arrow reads, or Arrow reads them."""
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading import parquet_vectors
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.parquet_vectors import IrregularError, VectorPages


def pages_of(path, group, dim):
    file = pq.ParquetFile(path)
    footer = file.metadata.row_group(group)
    return VectorPages(str(path), footer.column(0), file.schema.column(0), footer.num_rows, dim)


def column(rows, fixed=True, nullable=True):
    values = pa.field("item", pa.from_numpy_dtype(rows.dtype), nullable=nullable)
    kind = pa.list_(values, rows.shape[1]) if fixed else pa.list_(values)
    return pa.array(list(rows), kind), pa.schema([pa.field("v", kind, nullable=nullable)])


@settings(deadline=None, max_examples=60)
@given(
    dim=st.integers(1, 40),
    n=st.integers(1, 300),
    distinct=st.sampled_from([1, 3, 200, 10**6]),
    dtype=st.sampled_from([np.float32, np.float64]),
    compression=st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    fixed=st.booleans(),
    nullable=st.booleans(),
    version=st.sampled_from(["1.0", "2.0"]),
    use_dictionary=st.booleans(),
    page=st.sampled_from([64, 1000, 1 << 20]),
)
def test_pages_hold_what_was_written(
    tmp_path_factory, dim, n, distinct, dtype, compression, fixed, nullable, version, use_dictionary, page
):
    rows = generator("pages", dim, n).integers(0, distinct, (n, dim)).astype(dtype)
    array, schema = column(rows, fixed, nullable)
    path = tmp_path_factory.mktemp("pages") / "a.parquet"
    pq.write_table(
        pa.table([array], schema=schema), path, compression=compression, data_page_version=version,
        use_dictionary=use_dictionary, data_page_size=page, dictionary_pagesize_limit=600, row_group_size=200,
        write_batch_size=50,
    )  # fmt: skip
    low = 0
    for group in range(pq.ParquetFile(path).num_row_groups):
        pages = pages_of(path, group, dim)
        for take in (1, 7, 10**6):
            take = min(take, min(n, 200 * (group + 1)) - low)
            np.testing.assert_array_equal(pages.take(take), rows[low : low + take])
            low += take
    assert low == n


LATE = [[1.0, 2.0]] * 5000
IRREGULAR = {
    "widths that add up": [*LATE, [1.0], [2.0, 3.0, 4.0], *LATE],
    "an empty and a wide one": [*LATE, [], [1.0, 2.0, 3.0], *LATE],
    "null elements": [*LATE, [None, 1.0], [1.0, None], *LATE],
    "null rows": [*LATE, None, [1.0, 2.0, 3.0], *LATE],
}


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_irregular_rows_are_left_to_arrow_from_where_they_begin(tmp_path, monkeypatch, kind, version):
    rows = IRREGULAR[kind]
    table = pa.table({"v": pa.array(rows, pa.list_(pa.float32())), "n": range(len(rows))})
    pq.write_table(table, tmp_path / "a.parquet", data_page_size=500, write_batch_size=100, data_page_version=version)
    monkeypatch.setattr("beam_coresets.points.block.MAX_BLOCK_ROWS", 1000)
    with pytest.raises(IrregularError):
        pages_of(tmp_path / "a.parquet", 0, 2).take(len(rows))
    found = list(ReadBlocks(str(tmp_path / "a.parquet"), Columns(vector_column="v", keep_columns=("n",))).here())
    blocks = [f for f in found if isinstance(f, PointBlock)]
    good = [i for i, row in enumerate(rows) if row is not None and len(row) == 2 and None not in row]
    assert [i for b in blocks for i in b.extras.column("n").to_pylist()] == good
    np.testing.assert_array_equal(np.concatenate([b.points for b in blocks]), [rows[i] for i in good])
    assert [f.position for f in found if not isinstance(f, PointBlock)] == ["row 5000", "row 5001"]


def test_the_reader_takes_the_pages_when_it_can(tmp_path, monkeypatch):
    rows = generator("taken").normal(size=(5000, 16)).astype(np.float32)
    array, schema = column(rows)
    table = pa.table([array], schema=schema).append_column("name", pa.array([str(i) for i in range(5000)]))
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1500)
    taken = []
    take = VectorPages.take
    monkeypatch.setattr(VectorPages, "take", lambda self, n: (taken.append(n), take(self, n))[1])
    for metric in ("euclidean", "cosine"):
        columns = Columns(vector_column="v", id_column="name", metric=metric)
        (block,) = ReadBlocks(str(tmp_path / "a.parquet"), columns).here()
        expected = rows if metric == "euclidean" else rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(block.points, expected, rtol=1e-6)
        assert block.extras.column("id").to_pylist() == [str(i) for i in range(5000)]
    assert sum(taken) == 10_000


def test_pages_that_are_no_floats_are_refused(tmp_path):
    array, schema = column(np.ones((10, 2), np.float16))
    pq.write_table(pa.table([array], schema=schema), tmp_path / "a.parquet")
    with pytest.raises(IrregularError, match="a column of FIXED_LEN_BYTE_ARRAY"):
        pages_of(tmp_path / "a.parquet", 0, 2)
    with pytest.raises(IrregularError, match="page header with a field of type 9"):
        parquet_vectors._thrift(bytes([0x19, 0x15, 0x00]), 0)
