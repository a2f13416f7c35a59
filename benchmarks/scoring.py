"""Scoring a stream's rows by emitted centers: points/s beside RunInference with scikit-learn, and planted anomalies.

    python benchmarks/scoring.py speed                         500,000 x 8, k = 20, in one process
    python benchmarks/scoring.py anomalies                     ROC AUC beside scikit-learn's IsolationForest
    python benchmarks/scoring.py anomalies --pyod PYTHON       and PyOD's CBLOF, with a Python that has pyod

Speed: all ways get the same points, in the runner of Beam in this process, and end in a count of rows; `rows alone` is
what making a Beam element of each point costs, without scoring it. KMeans gives the cluster only, the others all
five fields. Anomalies: 20,000 rows of ten clusters and 1 % planted ones; ours are scored by a summary of the same rows,
anomalies among them, by eight shards (l = 2), of which one is dropped.

  box    uniform noise in a box ten times as wide as a cluster's distance to others
  far    in all directions, ten to a hundred times as far off as the clusters
  local  clusters whose spreads differ by up to ten times, and rows 5 to 8 spreads from the middle of a cluster
"""
import argparse
import dataclasses
import pathlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import RunInference
from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from beam_coresets.coordinator.decision import decide
from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.running.local import IN_PROCESS
from beam_coresets.points.block import PointBlock, blocks_of
from beam_coresets.results.summary import summarize
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.summaries import open_summaries
from beam_coresets.transforms.rows.model_handler import CentersModelHandler
from beam_coresets.transforms.rows.score_rows import Score
from beam_coresets.transforms.writing.claims import Claims

N, K, SHARE = 20_000, 10, 0.01
BLOCK = 20_000
CBLOF = """
import sys, numpy as np
from pyod.models.cblof import CBLOF
points = np.load(sys.argv[1])
try:
    scores = CBLOF(n_clusters=int(sys.argv[3]), random_state=int(sys.argv[4])).fit(points).decision_scores_
except ValueError as error:
    sys.exit(str(error))
np.save(sys.argv[2], scores)
"""


def write(folder: str, points: np.ndarray, k: int, seed: int = 0, outliers: float = 0.0) -> None:
    """A summary of the points as a folder's tables; shard 3 is dropped."""
    plan = Plan(k=k, shards=8, replication=2, outliers=outliers, seed=seed)
    reports = [report for report in shard_reports(blocks_of(points), plan.merge_reduce) if report.shard != 3]
    names = tuple(f"x{j}" for j in range(points.shape[1]))
    question = dataclasses.replace(plan.question, columns=names)
    Claims(folder, "parquet").publish(summarize(decide(reports, plan.policy), question))


# Speed


def made(number: int, mixture: GaussianMixture, form: str) -> Iterator[Any]:
    """A block of points as Beam elements of some form."""
    (block,) = blocks_of(mixture.block(number, BLOCK), part=number, rows=BLOCK)
    if form == "block":
        yield block
    elif form == "array":
        yield from block.points.astype(np.float64)
    else:
        names = [f"x{j}" for j in range(block.dim)]
        for row in block.points.tolist():
            yield dict(zip(names, row, strict=True))


def seconds(blocks: int, mixture: GaussianMixture, form: str, score: Any) -> float:
    """How long a pipeline runs from start to end."""
    pipeline = beam.Pipeline(IN_PROCESS)
    kind = PointBlock if form == "block" else Any
    rows = pipeline | beam.Create(range(blocks)) | beam.FlatMap(made, mixture, form).with_output_types(kind)
    rows = rows if score is None else rows | score
    rows = getattr(rows, "rows", rows)
    size = (lambda each: len(each.weights)) if form == "block" else (lambda each: 1)
    _ = rows | "Sizes" >> beam.Map(size) | beam.CombineGlobally(sum) | beam.Map(check, blocks * BLOCK)
    began = time.perf_counter()
    pipeline.run().wait_until_finish()
    return time.perf_counter() - began


def check(found: int, expected: int) -> None:
    """Raises where rows are missing."""
    assert found == expected, (found, expected)


def speed(args: argparse.Namespace, console: Console) -> None:
    """Points/s of each way, the best of `--repeats` runs in turn."""
    mixture, blocks = GaussianMixture(seed=1, d=args.dim, k=args.k), -(-args.n // BLOCK)
    with tempfile.TemporaryDirectory() as name:
        out, model = f"{name}/out", f"{name}/model.pickle"
        points = np.concatenate([mixture.block(i, BLOCK) for i in range(min(blocks, 5))])
        write(out, points, args.k)
        centers = open_summaries(out).latest().centers
        fitted = KMeans(args.k, init=centers, n_init=1, max_iter=1).fit(points.astype(np.float64))
        pathlib.Path(model).write_bytes(pickle.dumps(fitted))
        ways = [
            ("blocks", "Score", "block", lambda: Score(out)),
            ("arrays", "rows alone", "array", lambda: None),
            ("arrays", "RunInference, CentersModelHandler", "array", lambda: RunInference(CentersModelHandler(out))),
            ("arrays", "RunInference, scikit-learn's KMeans", "array",
             lambda: RunInference(SklearnModelHandlerNumpy(model, max_batch_size=4096))),
            ("dicts", "rows alone", "dict", lambda: None),
            ("dicts", "Score", "dict", lambda: Score(out)),
        ]  # fmt: skip
        best: dict[tuple[str, str], float] = {}
        for _ in range(args.repeats):
            for given, way, form, score in ways:
                took = seconds(blocks, mixture, form, score())
                best[given, way] = min(took, best.get((given, way), np.inf))
    table = Table("rows given as", "way", "points/s", title=f"{blocks * BLOCK:,} x {args.dim}, k = {args.k}")
    for (given, way), took in best.items():
        table.add_row(given, way, f"{blocks * BLOCK / took:,.0f}")
    console.print(table)


# Anomalies


def planted(kind: str, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All points (n, d) float32, shuffled, and which were planted (n,)."""
    rng = generator("scoring", kind, d, seed)
    m = round(SHARE * N)
    means, which = rng.normal(size=(K, d)) * 8, rng.choice(K, N, p=rng.dirichlet(np.full(K, 3.0)))
    spreads = 10 ** rng.uniform(-0.5, 0.5, K) if kind == "local" else np.ones(K)
    inliers = means[which] + spreads[which, None] * rng.normal(size=(N, d))
    away = rng.normal(size=(m, d))
    if kind == "box":
        away = rng.uniform(-40, 40, (m, d))
    elif kind == "far":
        away *= rng.uniform(80, 800, (m, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    else:
        of = rng.choice(K, m)
        reach = rng.uniform(5, 8, m) * spreads[of] * np.sqrt(d) / 2
        away = means[of] + reach[:, None] * away / np.linalg.norm(away, axis=1, keepdims=True)
    order = rng.permutation(N + m)
    return np.concatenate([inliers, away])[order].astype(np.float32), (np.arange(N + m) >= N)[order]


def scores_of(points: np.ndarray, seed: int, python: str | None) -> dict[str, np.ndarray]:
    """Each way's anomaly scores (n,)."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for label, outliers in (("ours", 0.0), ("ours, outliers=1%", SHARE)):
            write(f"{name}/{label}", points, K, seed, outliers)
            found[label] = open_summaries(f"{name}/{label}").latest().coreset.score(points).scores
        found["IsolationForest"] = -IsolationForest(random_state=seed).fit(points).score_samples(points)
        if python is not None:
            np.save(f"{name}/points.npy", points)
            words = [f"{name}/points.npy", f"{name}/scores.npy", str(K), str(seed)]
            done = subprocess.run([python, "-c", CBLOF, *words], capture_output=True, text=True)
            scores = pathlib.Path(f"{name}/scores.npy")
            if not scores.exists():
                print(f"CBLOF: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            found["CBLOF"] = np.load(scores) if scores.exists() else np.full(len(points), np.nan)
    return found


def anomalies(args: argparse.Namespace, console: Console) -> None:
    """ROC AUC of each way in each cell, least and mean over the seeds."""
    table = None
    for kind in ("box", "far", "local"):
        for d in args.dims:
            values: dict[str, list[float]] = {}
            for seed in range(args.seeds):
                points, truth = planted(kind, d, seed)
                for label, scores in scores_of(points, seed, args.pyod).items():
                    known = bool(np.isfinite(scores).all())
                    values.setdefault(label, []).append(float(roc_auc_score(truth, scores)) if known else np.nan)
            table = table or Table("anomalies", "d", *values, title=f"ROC AUC, mean (least) of {args.seeds} seeds")
            table.add_row(kind, str(d), *(f"{np.nanmean(v):.4f} ({np.nanmin(v):.4f})" for v in values.values()))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "anomalies"))
    parser.add_argument("--n", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--pyod", help="a Python that has pyod")
    args = parser.parse_args()
    {"speed": speed, "anomalies": anomalies}[args.what](args, Console())


if __name__ == "__main__":
    main()
