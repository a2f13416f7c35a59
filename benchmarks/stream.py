"""The streaming job on Flink's embedded cluster, as a user runs it: the rate it sustains, memory, checkpoints, keys.

    make job-server; make broker                                  # see docs/streaming.md
    python benchmarks/stream.py rate --rates block:1:2e6 block:3:1e6 json:1:8e4 avro:1:8e4 --seconds 120
    python benchmarks/stream.py memory
    python benchmarks/stream.py checkpoints --checkpoints 200
    python benchmarks/stream.py keys --keys 1 5000

`rate` runs a paced producer beside the job, and holds the points of all windows against what was produced; the lag of
the last windows shows whether it kept up. `memory` prints the worker's peak for a window's points and windows times
ten, and for a shard that is dead for all of the windows, each over that of the first run. `checkpoints` prints every
12th checkpoint's size; there is one after each poll, some 5 s. `keys` fills a topic with one window of blocks of 20
rows with so many keys, and prints how long after the launch it was decided, and when its centers were there.
"""
import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from stream_producer import SCHEMA, create, produce  # noqa: E402
from streaming_job import checkpoints_in  # noqa: E402

from beam_coresets.transforms.writing.stored_tables import read_table  # noqa: E402

JAR = HERE.parent / ".cache/flink/job-server.jar"
STREAM = [sys.executable, "-m", "beam_coresets.pipelines.main", "stream", "--runner=FlinkRunner"]


def peak_of(process):
    """Follows a process to its end and returns its peak memory in MB: the worker is in it on the embedded cluster."""
    peak = 0.0
    while process.poll() is None:
        try:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, *(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")))
        except (FileNotFoundError, ProcessLookupError, TypeError, ValueError):
            pass
        time.sleep(0.2)
    return peak


def launch(args, output, *options, k=20):
    """Starts a job."""
    command = [*STREAM, f"--flink_job_server_jar={args.jar}", "--flink_version=1.19", "--format", "parquet"]
    command += ["--output", str(output), "--k", str(k), "--shards", "4", *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def rates(args):
    """One line for each of FORM:REPLICATION:RATE."""
    print(f"{'run':<16} {'points/s':>12} {'windows':>8} {'lag, 1st half':>16} {'lag, 2nd half':>17} {'all points':>11}")
    for spec in args.rates:
        form, replication, rate = spec.split(":")
        topic = f"bench-{form}-{replication}-{int(time.time())}"
        create(args.servers, topic, 8)
        with tempfile.TemporaryDirectory() as folder:
            columns = ["--dim", 8] if form == "block" else ["--columns", ",".join(f"f{i}" for i in range(8))]
            if form == "avro":
                schema = pathlib.Path(folder) / "point.avsc"
                schema.write_text(json.dumps(SCHEMA))
                columns += ["--avro_schema", str(schema)]
            job = launch(
                args, folder + "/out", "--topic", topic, "--bootstrap_servers", args.servers, "--message_format", form,
                "--replication", replication, "--window", "5s", "--start", "earliest", "--duration",
                f"{args.seconds + 35}s", *columns,
            )  # fmt: skip
            time.sleep(12)
            produced = produce(args.servers, topic, 8, float(rate), args.seconds, form)
            job.wait()
            rows = [row for row in read_table(folder + "/out", "summaries").to_pylist() if row["points"]]
        rows.sort(key=lambda row: row["window_end"])
        whole = rows[1:-1]
        lags = [row["decided_at"] - row["window_end"] for row in whole]
        half = len(lags) // 2
        reached = sum(row["points"] for row in whole) / (5 * len(whole))
        same = sum(row["points"] for row in rows) == produced
        print(f"{form + ' l=' + replication:<16} {reached:>12,.0f} {len(rows):>8} {max(lags[:half]):>14.1f} s "
              f"{max(lags[half:]):>15.1f} s {'yes' if same else 'NO':>11}", flush=True)  # fmt: skip


MEMORY = {
    "base": ("--rate", "50000", "--window", "5s", "--duration", "75s"),
    "points x 10": ("--rate", "500000", "--window", "5s", "--duration", "75s"),
    "windows x 10": ("--rate", "50000", "--window", "500ms", "--duration", "75s"),
    "dead, 1000 windows": ("--rate", "50000", "--window", "250ms", "--hold_shards", "2:5s:1000s", "--duration", "275s"),
}


def memory(args):
    """One line for each of `MEMORY`."""
    base = None
    for name, options in MEMORY.items():
        with tempfile.TemporaryDirectory() as folder:
            peak = peak_of(launch(args, folder + "/out", "--replication", "2", "--deadline", "5s", *options))
            table = read_table(folder + "/out", "summaries")
        base = base or peak
        print(f"{name:<20} {len(table):>5} windows  {peak:7.0f} MB  {peak / base:5.2f} x", flush=True)


def checkpoints(args):
    """The sizes of a running job's checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        kept = pathlib.Path(folder) / "checkpoints"
        job = launch(args, folder + "/out", "--replication", "2", "--rate", "50000", "--window", "5s",
                     "--checkpoint_dir", kept, "--checkpointing_interval=1000")  # fmt: skip
        sizes = {}
        while len(sizes) < args.checkpoints and job.poll() is None:
            for checkpoint in checkpoints_in(kept):
                try:
                    sizes.setdefault(checkpoint.name, sum(path.stat().st_size for path in checkpoint.iterdir()))
                except FileNotFoundError:  # replaced meanwhile
                    continue
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        job.wait()
    shown = ", ".join(f"{size / 1e6:.1f}" for size in list(sizes.values())[::12])
    print(f"{len(sizes)} checkpoints, every 12th: {shown} MB")


def keys(args):
    """One line for each number of keys."""
    for count in args.keys:
        topic = f"bench-keys-{count}-{int(time.time())}"
        create(args.servers, topic, 8)
        # All of it is due within one minute, in which it is also written.
        time.sleep(60 - time.time() % 60)
        produced = produce(args.servers, topic, 8, 1e5, 40, "block", 20, keys=count)
        time.sleep(60 - time.time() % 60)
        with tempfile.TemporaryDirectory() as folder:
            began = time.time()
            job = launch(
                args, folder + "/out", "--topic", topic, "--bootstrap_servers", args.servers, "--message_format",
                "block", "--dim", 8, "--replication", 2, "--window", "60s", "--start", "earliest", "--key_column",
                "message.key", "--coreset_size", 50, "--max_windows", 1, "--duration", "150s", k=5,
            )  # fmt: skip
            job.wait()
            rows = [row for row in read_table(folder + "/out", "summaries").to_pylist() if row["points"]]
            written = max(path.stat().st_mtime for path in pathlib.Path(folder, "out", "summaries").rglob("*.parquet"))
        decided = max(row["decided_at"] for row in rows) - began
        same = sum(row["points"] for row in rows) == produced
        print(f"{count:>6,} keys: {len(rows):,} summaries of {produced:,} points{'' if same else ' (DIFFER)'}, decided "
              f"{decided:.1f} s after launch, written after {written - began:.1f} s", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rate", "memory", "checkpoints", "keys"))
    parser.add_argument("--servers", default="localhost:9092")
    parser.add_argument("--jar", default=str(JAR))
    parser.add_argument("--rates", nargs="+", default=["block:1:2e6", "block:3:1e6"], metavar="FORM:REPLICATION:RATE")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--checkpoints", type=int, default=200)
    parser.add_argument("--keys", type=int, nargs="+", default=[1, 5000])
    args = parser.parse_args()
    {"rate": rates, "memory": memory, "checkpoints": checkpoints, "keys": keys}[args.what](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
