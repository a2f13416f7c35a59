"""Small jobs for tests: seeded points, files of them, pipelines whose output is collected; the same without Beam."""
import dataclasses
import itertools

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.timestamp import Timestamp

from beam_coresets import table_schemas
from beam_coresets.coordinator.decision import decide
from beam_coresets.hashing import generator
from beam_coresets.pipelines.main import main
from beam_coresets.points.block import blocks_of
from beam_coresets.results.summary import summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.shards.refused import RefusedRows
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing.stored_tables import read_table

LOCAL = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)
TWO_WORKERS = (*LOCAL, "--direct_num_workers=2", "--direct_running_mode=multi_threading")
CENTERS = np.array([[0, 0, 0], [20, 0, 5], [0, 30, -5], [25, 25, 10]], np.float64)

_COLLECTED = {}
_numbers = itertools.count()


def clusters(n, seed=0, dtype=np.float32):
    """(n, 3) points around the four `CENTERS`, with unit variance."""
    rng = generator("jobs", seed)
    return (CENTERS[rng.integers(0, 4, n)] + rng.standard_normal((n, 3))).astype(dtype)


def with_far_rows(seed, n, m, far, k=5, d=3):
    """(n + m, d) points of k clusters and then m far ones, `far` to three times as far off; and the clusters' means."""
    rng = generator("planted", seed)
    means = rng.normal(size=(k, d)) * 8
    inliers = means[rng.integers(k, size=n)] + rng.normal(size=(n, d))
    away = rng.normal(size=(m, d))
    away *= far * rng.uniform(1, 3, (m, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    return np.concatenate([inliers, away]).astype(np.float32), means


def parts_of(points, parts=3, rows=300, weights=None):
    """The points as blocks of several parts, which take turns of `rows`."""
    found = []
    for part in range(parts):
        own = None if weights is None else weights[part::parts]
        found += blocks_of(np.ascontiguousarray(points[part::parts]), own, part, rows)
    return found


def write_parquet(folder, columns, files=3, group_rows=250):
    """Writes columns (name -> (n,) values) as Parquet files with as many rows each; returns their glob."""
    folder.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    step = -(-len(table) // files)
    for i in range(files):
        pq.write_table(table.slice(i * step, step), folder / f"part-{i}.parquet", row_group_size=group_rows)
    return f"{folder}/part-*.parquet"


def columns_of(points):
    return {f"x{j}": points[:, j] for j in range(points.shape[1])}


def _keep(value, where):
    _COLLECTED[where].append(value)


def run(build, options=LOCAL):
    """Runs the graph that `build(pipeline)` makes; returns (what its named PCollections held, those that are None left
    out, the result)."""
    pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
    held = {}
    for name, collection in build(pipeline).items():
        if collection is None:
            continue
        where = next(_numbers)
        held[name] = _COLLECTED[where] = []
        _ = collection | f"Collect {name}" >> beam.Map(_keep, where)
    result = pipeline.run()
    result.wait_until_finish()
    return held, result


def counters(result):
    """Name -> value of this project's counters, added up over all steps."""
    found = {}
    for metric in result.metrics().query()["counters"]:
        if metric.key.metric.namespace == "beam_coresets":
            name = metric.key.metric.name
            found[name] = found.get(name, 0) + metric.committed
    return found


def without_beam(blocks, plan, names=None, window=Window(), columns=None, refused=None):
    """What the pipeline must give: the Summary by direct calls; `columns` names the coordinates, and so many rows were
    refused, which jobs know."""
    reports = [r for r in shard_reports(blocks, plan.merge_reduce) if r.shard not in plan.drop_shards]
    question = dataclasses.replace(plan.question, columns=columns)
    decision = dataclasses.replace(decide(reports, plan.policy), refused=RefusedRows.of_number(refused))
    return summarize(decision, question, window, names)


def rows_in(folder, name):
    """The rows of a written table, as dicts."""
    return table_schemas.in_seconds(read_table(str(folder), name)).to_pylist()


def arrow_rows(rows, schema):
    """NamedTuples back as an Arrow table."""
    plain = [{n: v.micros if isinstance(v, Timestamp) else v for n, v in row._asdict().items()} for row in rows]
    whole = pa.schema([(f.name, pa.int64() if f.type == table_schemas.INSTANT else f.type) for f in schema])
    return pa.Table.from_pylist(plain, whole).cast(schema)


def summarize_files(source, output, *options):
    """Runs `beam-coresets summarize` in this process; returns its exit code."""
    return main(["summarize", "--input", *([source] if isinstance(source, str) else source),
                 "--output", str(output), *options])  # fmt: skip


def summary_row(output):
    (row,) = rows_in(output, "summaries")
    return row
