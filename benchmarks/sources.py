"""How fast each file format becomes PointBlocks: `python benchmarks/sources.py [--rows 2000000] [--dim 8]`.

Writes seeded files to a temporary folder and reads them twice, the second time being what counts: without a pipeline,
and through ReadBlocks on FnApiRunner up to a count, start-up included.
"""
import argparse
import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import apache_beam as beam
import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns

# Rows as a fraction of --rows: what is parsed from text or record by record is slow enough with fewer.
KINDS = {"parquet": 1.0, "parquet float64": 1.0, "parquet ids": 1.0, "parquet vectors": 1.0, "npy": 1.0, "csv": 0.2,
         "txt": 0.2, "jsonl": 0.1, "avro": 0.1}  # fmt: skip


def write(folder: pathlib.Path, kind: str, rows: np.ndarray) -> tuple[str, Columns]:
    """Writes the rows as a file of this kind; returns its path and how to read it."""
    folder.mkdir()
    d = rows.shape[1]
    table = pa.table({f"x{j}": rows[:, j] for j in range(d)})
    path = folder / f"rows.{kind.split()[0]}"
    columns = Columns()
    if kind == "parquet float64":
        table = pa.table({f"x{j}": rows[:, j].astype(np.float64) * np.pi for j in range(d)})
    elif kind == "parquet ids":
        table = table.append_column("id", pa.array(np.arange(len(rows))).cast(pa.string()))
        columns = Columns(id_column="id")
    elif kind == "parquet vectors":
        table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), d)})
        columns = Columns(vector_column="v", metric="cosine")
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif kind == "npy":
        np.save(path, rows)
    elif kind == "csv":
        pacsv.write_csv(table, path)
    elif kind == "txt":
        np.savetxt(path, rows, "%.7g")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        fields = [{"name": name, "type": "float"} for name in table.column_names]
        with open(path, "wb") as file:
            fastavro.writer(file, {"type": "record", "name": "Row", "fields": fields}, table.to_pylist())
    return str(path), columns


def direct(path: str, columns: Columns) -> int:
    return sum(len(found) for found in ReadBlocks(path, columns).here() if isinstance(found, PointBlock))


def pipeline(path: str, columns: Columns) -> int:
    with beam.Pipeline(FnApiRunner(), options=PipelineOptions([])) as p:
        _ = (p | ReadBlocks(path, columns)).blocks | beam.Map(len) | beam.CombineGlobally(sum)
    counters = p.result.metrics().query(beam.metrics.MetricsFilter().with_name("points_read"))["counters"]
    return int(counters[0].result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    print(f"{'format':<18}{'rows':>10}{'MB':>8}{'direct, M rows/s':>18}{'pipeline, M rows/s':>20}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            n = max(1000, int(options.rows * KINDS[kind]))
            rows = generator("benchmark", kind).normal(size=(n, options.dim)).astype(np.float32)
            path, columns = write(pathlib.Path(folder) / kind.replace(" ", "_"), kind, rows)
            rates = []
            for way in (direct, pipeline):
                way(path, columns)
                start = time.perf_counter()
                assert way(path, columns) == n
                rates.append(n / (time.perf_counter() - start) / 1e6)
            print(f"{kind:<18}{n:>10}{os.path.getsize(path) / 1e6:>8.0f}{rates[0]:>18.2f}{rates[1]:>20.2f}", flush=True)


if __name__ == "__main__":
    main()
