"""Folders of summaries for the tests of the library that reads them, written as a stream does."""
import dataclasses
import functools

import numpy as np
import pyarrow as pa
from jobs import clusters

from beam_coresets.coordinator.decision import decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.points.scale import Scale
from beam_coresets.results.summary import summarize, summary_of_keys
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing.claims import Claims

DAY = 1795219200.0  # 2026-11-21
MINUTE = 60.0
PLAN = Plan(k=3, shards=4, replication=2, coreset_size=30, buckets=32)
COLUMNS = ("x", "y", "z")


def points_of(number, rows=400):
    """(rows, 3) float64."""
    return clusters(rows, number).astype(np.float64)


def kept_of(points):
    """A name for each of four places, and whether x is positive as a number that the tenth row lacks."""
    names = np.array(["south", "east", "north", "far"])[2 * (points[:, 1] > 15) + (points[:, 0] > 10)]
    flag = [None if i == 10 else float(x > 0) for i, x in enumerate(points[:, 0])]
    return pa.table({
        "id": [f"row{i}" for i in range(len(points))], "place": names.tolist(), "positive": pa.array(flag, pa.float64())
    })


@functools.lru_cache(maxsize=128)
def decision_of(number, rows=400, missing=(), kept=False, scale=None):
    """That of so many points, without the reports of some shards."""
    points = points_of(number, rows)
    blocks = blocks_of(points if scale is None else scale.apply(points), rows=100)
    if kept:
        extras = kept_of(points)
        blocks = [dataclasses.replace(b, extras=extras.slice(100 * i, len(b.points))) for i, b in enumerate(blocks)]
    reports = shard_reports(blocks, PLAN.merge_reduce)
    return decide([report for report in reports if report.shard not in missing], PLAN.policy)


def answer(window, number, columns=COLUMNS, scale=None, quick=True, **options):
    """The summary of a window."""
    question = dataclasses.replace(PLAN.question, quick=quick, columns=columns)
    return summarize(decision_of(number, scale=scale, **options), question, window, scale=scale, reason="all",
                     decided_at=None if window.end is None else window.end + 2)  # fmt: skip


def minute(i, key="", revision=1):
    """The i-th window of a minute."""
    return Window(DAY + i * MINUTE, DAY + (i + 1) * MINUTE, key, revision)


def write(folder, summary, form="parquet"):
    """Claims a window and puts its files into their places."""
    assert Claims(str(folder), form).publish(summary)


def write_minutes(folder, numbers, form="parquet", **options):
    """A window of a minute for each number."""
    for i in numbers:
        write(folder, answer(minute(i), i, **options), form)


def write_keys(folder, window, keys, form="parquet"):
    """One file with several keys, key -> number of its points."""
    whole = dataclasses.replace(window, key="")
    parts = [answer(dataclasses.replace(window, key=key), number) for key, number in keys.items()]
    write(folder, summary_of_keys(whole, parts), form)


SCALE = Scale((1.0, 2.0, 3.0), (10.0, 20.0, 5.0))
