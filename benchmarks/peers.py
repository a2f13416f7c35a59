"""Ours and its peers side by side in one run: speed, memory, cost of the centers, distortion of the coreset.

    make peers                                    2 M x 8, k = 20
    python benchmarks/peers.py --names wide       20,000 unit vectors of 768 columns, k = 500

`coresets` and `bico` ask for NumPy 1 and must not go into the environment that Beam is in; so they run under an
interpreter of their own, as do the others that Beam's environment has no use for (default: .venv-peers/bin/python if
there is one; `make peers` makes it). A method that cannot be imported is shown as not installed. Two take a row at a
time or solve a flow, and get the first 20,000 rows only, as their names say; speed is that on these.

Every method runs in a fresh subprocess per round, on one thread, on points that are in memory already; rounds go
through all methods in turn, so that a busy machine slows all alike. Columns:

    points/s   median over rounds, from points in memory to coreset (MiniBatchKMeans: to centers); our kernels are
               compiled before, on a few points
    MiB        largest over rounds: peak memory of the process over what it held with the points loaded
    cost       k-means cost of the centers on all points, over the best that any method found in this run; centers of a
               coreset are solved by our solver, on every method's coreset alike (but for "scikit-learn on our sample")
    distortion over the center sets of benchmarks/distortion.py (largest), for what gives a coreset
"""
import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Result = dict[str, Array]

SHAPES = {"gm": (2_000_000, 20), "ht": (200_000, 50), "wide": (20_000, 500)}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
CHUNK = 10_000
FEW = 20_000  # rows for those that take them one at a time
NOT_INSTALLED = "not installed"


def ours(shards: int, replication: int, dropped: tuple[int, ...]) -> Callable[[Array, int, int, int], Result]:
    """Shard reports and the decision, in this process."""

    def run(points: Array, k: int, size: int, seed: int) -> Result:
        from beam_coresets.coordinator.decision import Policy, decide
        from beam_coresets.points.block import blocks_of
        from beam_coresets.sampling.importance import Sampler
        from beam_coresets.shards.assignment import Assignment
        from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports

        assignment = Assignment(shards, replication, seed=seed)
        reports = shard_reports(blocks_of(points), MergeReduce(Sampler(k, size, seed=seed), assignment, seed))
        decision = decide([report for report in reports if report.shard not in dropped], Policy(assignment))
        return {"points": decision.coreset.points, "weights": decision.coreset.weights}

    return run


def mini_batch_k_means(points: Array, k: int, size: int, seed: int) -> Result:
    """scikit-learn, chunk by chunk."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(k, random_state=seed)
    for low in range(0, len(points), CHUNK):
        model.partial_fit(points[low : low + CHUNK])
    return {"centers": model.cluster_centers_}


def uniform(shards: int) -> Callable[[Array, int, int, int], Result]:
    """As many rows as `shards` of our shards keep, each as likely; the first objection to a coreset."""

    def run(points: Array, k: int, size: int, seed: int) -> Result:
        count = min(len(points), shards * size)
        rows = np.sort(np.random.default_rng(seed).choice(len(points), count, replace=False))
        return {"points": points[rows], "weights": np.full(count, len(points) / count)}

    return run


def on_our_sample(points: Array, k: int, size: int, seed: int) -> Result:
    """scikit-learn's KMeans on the coreset of ten shards."""
    from sklearn.cluster import KMeans

    made = ours(10, 1, ())(points, k, size, seed)
    model = KMeans(k, random_state=seed, n_init=1).fit(made["points"], sample_weight=made["weights"])
    return {"centers": model.cluster_centers_}


def faiss_kmeans(most: int) -> Callable[[Array, int, int, int], Result]:
    """faiss's Kmeans of 25 iterations on at most so many points a center."""

    def run(points: Array, k: int, size: int, seed: int) -> Result:
        import faiss

        faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        model = faiss.Kmeans(points.shape[1], k, niter=25, seed=seed + 1, max_points_per_centroid=most)
        model.train(np.ascontiguousarray(points, np.float32))
        return {"centers": model.centroids}

    return run


def superkmeans_all(points: Array, k: int, size: int, seed: int) -> Result:
    """SuperKMeans on all points, flat, 25 iterations at most."""
    from superkmeans import SuperKMeans

    model = SuperKMeans(
        k, points.shape[1], hierarchical=False, iters=25, sampling_fraction=1.0, max_points_per_cluster=10**9,
        n_threads=int(os.environ["OMP_NUM_THREADS"]), seed=seed,
    )  # fmt: skip
    return {"centers": model.train(np.ascontiguousarray(points, np.float32))}


def river_kmeans(points: Array, k: int, size: int, seed: int) -> Result:
    """river's KMeans, a row at a time."""
    from river import cluster

    model = cluster.KMeans(n_clusters=k, halflife=0.1, seed=seed, sigma=float(points[:1000].std()))
    for row in points[:FEW].tolist():
        model.learn_one(dict(enumerate(row)))
    centers = [[model.centers[j][t] for t in range(points.shape[1])] for j in range(k)]
    return {"centers": np.array(centers), "seen": np.array(min(len(points), FEW))}


def constrained(points: Array, k: int, size: int, seed: int) -> Result:
    """KMeansConstrained without a bound that binds: a flow an iteration."""
    from k_means_constrained import KMeansConstrained

    rows = points[:FEW].astype(np.float64)
    model = KMeansConstrained(k, size_min=1, size_max=len(rows), n_init=1, max_iter=10, random_state=seed).fit(rows)
    return {"centers": model.cluster_centers_, "seen": np.array(len(rows))}


def coresets_package(method: str) -> Callable[[Array, int, int, int], Result]:
    """KMeansCoreset or KMeansLightweightCoreset of the `coresets` package."""

    def run(points: Array, k: int, size: int, seed: int) -> Result:
        import coresets

        np.random.seed(seed)  # the package draws from the global generator
        if method == "sensitivity":
            made = coresets.KMeansCoreset(points, n_clusters=k, random_state=seed)
        else:
            made = coresets.KMeansLightweightCoreset(points, random_state=seed)
        rows, weights = made.generate_coreset(size)
        return {"points": rows, "weights": weights}

    return run


def bico(times: int) -> Callable[[Array, int, int, int], Result]:
    """BICO with a summary of `times` the size, chunk by chunk."""

    def run(points: Array, k: int, size: int, seed: int) -> Result:
        from bico import BICO

        model = BICO(n_clusters=k, summary_size=times * size, random_state=seed)
        for low in range(0, len(points), CHUNK):
            model.partial_fit(points[low : low + CHUNK].astype(np.float64))
        model.partial_fit()
        return {"points": np.array(model.coreset_points_), "weights": np.array(model.coreset_weights_)}

    return run


# name -> (how it runs, whether it needs the peers' interpreter, what has to be importable)
METHODS: dict[str, tuple[Callable[[Array, int, int, int], Result], bool, str]] = {
    "ours, one shard": (ours(1, 1, ()), False, "beam_coresets"),
    "ours, 10 shards, l = 1": (ours(10, 1, ()), False, "beam_coresets"),
    "ours, 10 shards, l = 3, two dropped": (ours(10, 3, (1, 4)), False, "beam_coresets"),
    "MiniBatchKMeans.partial_fit": (mini_batch_k_means, False, "sklearn"),
    "uniform, as many points": (uniform(10), False, "beam_coresets"),
    "scikit-learn on our sample": (on_our_sample, False, "sklearn"),
    "faiss, 256 points a center": (faiss_kmeans(256), True, "faiss"),
    "faiss, all points": (faiss_kmeans(10**9), True, "faiss"),
    "superkmeans, all points": (superkmeans_all, True, "superkmeans"),
    "river, 20,000 rows": (river_kmeans, True, "river"),
    "k-means-constrained, 20,000 rows": (constrained, True, "k_means_constrained"),
    "coresets, sensitivity": (coresets_package("sensitivity"), True, "coresets"),
    "coresets, lightweight": (coresets_package("lightweight"), True, "coresets"),
    "bico, 40 k": (bico(1), True, "bico"),
    "bico, 200 k": (bico(5), True, "bico"),
}
OURS = [name for name in METHODS if name.startswith("ours")]


def memory(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process in MiB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def work(method: str, source: str, target: str, k: int, size: int, seed: int) -> None:
    """A subprocess' part: loads, warms, measures, writes the result and one line of JSON."""
    run, _, module = METHODS[method]
    try:
        __import__(module)
    except ImportError as error:
        print(json.dumps({"failed": NOT_INSTALLED, "why": str(error)}))
        return
    points = np.load(source)
    run(points[:2_000].copy(), min(k, 10), 100, seed)  # imports, and compiled kernels
    before = memory("VmRSS")
    began = time.perf_counter()
    result = run(points, k, size, seed)
    seconds = time.perf_counter() - began
    np.savez(target, **result)
    seen = int(result.get("seen", len(points)))
    print(json.dumps({"seconds": seconds, "seen": seen, "memory": memory("VmHWM") - before}))


def measured(method: str, source: str, target: str, k: int, size: int, seed: int, options: Any) -> dict[str, Any]:
    """Runs one method in a subprocess of its interpreter."""
    python = options.peers_python if METHODS[method][1] else sys.executable
    environment = os.environ | dict.fromkeys(THREADS, str(options.threads))
    command = [python, __file__, "--work", json.dumps([method, source, target, k, size, seed])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        error = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"failed": "failed", "why": error}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def load(name: str, folder: pathlib.Path | None, n: int | None) -> Array:
    """The public shape if its folder is given, else the generated one; the first n rows."""
    from beam_coresets.datasets.synthetic import GaussianMixture, HeavyTails, UnitVectors

    rows = SHAPES[name][0] if n is None else n
    if folder is not None and (folder / f"{name}.npy").exists():
        return np.ascontiguousarray(np.load(folder / f"{name}.npy")[:rows], np.float32)
    made = {"gm": GaussianMixture(seed=1), "ht": HeavyTails(seed=2), "wide": UnitVectors(seed=3, d=768)}
    return made[name].points(rows)


class Judge:
    """Scores centers and coresets on all points, by the same center sets for every method."""

    def __init__(self, points: Array, k: int) -> None:
        from beam_coresets.hashing import generator
        from beam_coresets.results import distortion
        from beam_coresets.solvers.centers import solve_centers

        self._points, self._ones, self._k = points, np.ones(len(points)), k
        self._solve, self._distortion = solve_centers, distortion
        rows = generator("peers").choice(len(points), min(len(points), 200_000), replace=False)
        self._sets = distortion.center_sets(points, solve_centers(points[rows], self._ones[rows], k).centers, [])
        self._costs = distortion.costs(points, self._ones, self._sets)
        self.best = float(self._costs[0])

    def __call__(self, result: Result) -> dict[str, Any]:
        """The cost of the centers on all points, and for a coreset its size and distortion."""
        if "centers" in result:
            cost = float(self._distortion.costs(self._points, self._ones, [("own", result["centers"])])[0])
            self.best = min(self.best, cost)
            return {"cost": cost}
        points, weights = np.ascontiguousarray(result["points"]), np.ascontiguousarray(result["weights"], np.float64)
        own = [("own", self._solve(points, weights, self._k, seed=seed).centers) for seed in (0, 1)]
        own_costs = self._distortion.costs(self._points, self._ones, own)
        on_data = np.concatenate([self._costs, own_costs])
        on_coreset = self._distortion.costs(points, weights, self._sets + own)
        self.best = min(self.best, float(own_costs.min()))
        worst = float(np.maximum(on_data / on_coreset, on_coreset / on_data).max())
        return {"cost": float(own_costs[0]), "size": len(points), "distortion": worst}


def side_by_side(name: str, options: Any) -> list[dict[str, Any]]:
    """All methods on one shape; a row each."""
    points, k = load(name, options.shapes, options.n), SHAPES[name][1]
    runs: dict[str, list[dict[str, Any]]] = {method: [] for method in options.methods}
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/points.npy", f"{folder}/result.npz"
        np.save(source, points)
        judge = Judge(points, k)
        for seed in range(options.rounds):
            for method in options.methods:
                found = measured(method, source, target, k, 40 * k, seed, options)
                if "failed" in found:
                    print(f"{name}, {method}: {found['failed']}: {found['why']}", file=sys.stderr)
                else:
                    with np.load(target) as result:
                        found |= judge(dict(result))
                runs[method].append(found)
    return [row(name, points, method, found, judge.best) for method, found in runs.items()]


def row(name: str, points: Array, method: str, runs: list[dict[str, Any]], best: float) -> dict[str, Any]:
    """A method's figures over its rounds."""
    out: dict[str, Any] = {"shape": name, "n": len(points), "d": points.shape[1], "method": method}
    failed = [run["failed"] for run in runs if "failed" in run]
    if failed:
        return out | {"M points/s": failed[0]}
    out["M points/s"] = runs[0]["seen"] / statistics.median(run["seconds"] for run in runs) / 1e6
    out["MiB"] = max(run["memory"] for run in runs)
    out["cost"] = statistics.median(run["cost"] for run in runs) / best
    out["worst cost"] = max(run["cost"] for run in runs) / best
    if "size" in runs[0]:
        out["coreset points"] = int(statistics.median(run["size"] for run in runs))
        out["distortion"] = statistics.median(run["distortion"] for run in runs)
        out["worst distortion"] = max(run["distortion"] for run in runs)
    return out


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds how many times as fast each of ours is as the row's method."""
    for one in rows:
        for name in OURS:
            base = next((r["M points/s"] for r in rows if (r["shape"], r["method"]) == (one["shape"], name)), None)
            speed = one["M points/s"]
            usable = isinstance(base, float) and isinstance(speed, float)
            one[f"{name} / it"] = base / speed if usable else ""
    return rows


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = pathlib.Path(__file__).resolve().parents[1] / ".venv-peers/bin/python"
    parser.add_argument("--names", nargs="+", choices=SHAPES, default=["gm"])
    parser.add_argument("--shapes", type=pathlib.Path, help="folder with gm.npy and ht.npy; else generated")
    parser.add_argument("--n", type=int, help="only this many points")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--rounds", type=int, default=3, help="a seed each (default: 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers_python", default=str(beside) if beside.exists() else sys.executable)
    parser.add_argument("--csv", type=pathlib.Path, help="write the table here too")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(*json.loads(options.work))
    rows = with_ratios([one for name in options.names for one in side_by_side(name, options)])
    columns = list(dict.fromkeys(column for one in rows for column in one))
    show(rows, columns, options)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    return None


def show(rows: list[dict[str, Any]], columns: list[str], options: Any) -> None:
    """The table on the terminal; wide enough to be read where it is a file."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"peers side by side, {options.threads} thread(s), {options.rounds} rounds")
    for column in columns:
        table.add_column(column, justify="left" if column in ("shape", "method") else "right")
    for one in rows:
        values = (one.get(column, "") for column in columns)
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values))
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


if __name__ == "__main__":
    main()
