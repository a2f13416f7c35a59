"""Thousands of centers: the whole job, from files to centers, beside faiss and superkmeans on the same vectors.

    make peers                                                          # once: installs the peers
    python benchmarks/many_centers.py                                   # k = 1,000, 200,000 x 64
    python benchmarks/many_centers.py --k 10000 --n 1000000 --dim 128

Vectors are of k * 1.5 overlapping clusters, in four Parquet files. `summarize` reads, samples (4 shards, l = 2), solves
and makes a certificate; peers have the vectors in memory and only find centers. One thread each. Costs are of the
centers on all vectors, over the least; seconds are of processors, memory is the process' peak.
"""
import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILES = 4
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
METHODS = ("ours", "faiss, 256 points a center", "faiss, all points", "superkmeans, all points")


def write(folder: pathlib.Path, n: int, dim: int, clusters: int) -> None:
    """Files of a list column `v`."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(clusters, dim)).astype(np.float32)
    for i in range(FILES):
        count = n * (i + 1) // FILES - n * i // FILES
        points = middles[rng.integers(0, clusters, count)] + 0.7 * rng.normal(size=(count, dim)).astype(np.float32)
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * dim)
        table = pa.table({"v": pa.ListArray.from_arrays(offsets, pa.array(points.ravel()))})
        pq.write_table(table, folder / f"{i}.parquet", compression="none", use_dictionary=False)


def vectors(folder: pathlib.Path, dim: int) -> np.ndarray:
    """All of them, in memory."""
    tables = [pq.read_table(path)["v"].combine_chunks() for path in sorted(folder.glob("*.parquet"))]
    return np.concatenate([each.values.to_numpy().reshape(-1, dim) for each in tables])


def work(method: str, folder: pathlib.Path, dim: int, k: int, size: int | None) -> None:
    """A subprocess' part: finds centers and writes them."""
    if method == "ours":
        from beam_coresets.pipelines.main import main

        words = ["summarize", "--input", f"{folder}/*.parquet", "--vector_column", "v", "--metric", "euclidean"]
        words += ["--output", f"{folder}/out", "--overwrite", "--k", str(k), "--shards", "4", "--replication", "2"]
        words += ["--quiet"] + (["--coreset_size", str(size)] if size else [])
        if main(words):
            raise RuntimeError("summarize: must end well")
        table = pq.read_table(next((folder / "out" / "centers").glob("*.parquet")))
        np.save(folder / "centers.npy", np.array(table["coordinates"].to_pylist(), np.float32))
    elif method.startswith("faiss"):
        import faiss

        faiss.omp_set_num_threads(1)
        most = 256 if "256" in method else 10**9
        model = faiss.Kmeans(dim, k, niter=25, seed=1, max_points_per_centroid=most)
        model.train(vectors(folder, dim))
        np.save(folder / "centers.npy", model.centroids)
    else:
        from superkmeans import SuperKMeans

        model = SuperKMeans(k, dim, hierarchical=False, iters=25, sampling_fraction=1.0,
                            max_points_per_cluster=10**9, n_threads=1)  # fmt: skip
        np.save(folder / "centers.npy", model.train(vectors(folder, dim)))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"seconds": usage.ru_utime + usage.ru_stime, "MiB": peak}))


def main() -> None:
    """Writes the vectors, runs each method, prints."""
    from beam_coresets.points.nearest import nearest

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = pathlib.Path(__file__).resolve().parents[1] / ".venv-peers/bin/python"
    parser.add_argument("--k", type=int, default=1_000)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--coreset_size", type=int, help="of a shard (default: 40 k)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--peers_python", default=str(beside) if beside.exists() else sys.executable)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        method, folder, *more = json.loads(options.work)
        return work(method, pathlib.Path(folder), *more)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder, options.n, options.dim, options.k * 3 // 2)
        for method in options.methods:
            python = sys.executable if method == "ours" else options.peers_python
            asked = json.dumps([method, name, options.dim, options.k, options.coreset_size])
            done = subprocess.run([python, __file__, "--work", asked], capture_output=True, text=True,
                                  env=os.environ | dict.fromkeys(THREADS, "1"))  # fmt: skip
            if done.returncode:
                print(f"{method}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
                continue
            found[method] = json.loads(done.stdout.strip().splitlines()[-1])
            points, centers = vectors(folder, options.dim), np.load(folder / "centers.npy")
            found[method]["cost"] = float(nearest(points, centers)[1].sum(dtype=np.float64))
            del points
    least = min(each["cost"] for each in found.values())
    for method, each in found.items():
        print(f"{method:<28} {each['seconds']:8.1f} s {each['MiB']:8.0f} MiB   cost {each['cost'] / least:.4f}")
    return None


if __name__ == "__main__":
    main()
