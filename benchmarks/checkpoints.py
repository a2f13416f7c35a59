"""How checkpoints grow with each `defer_remainder` of a polling reader on Flink's embedded cluster.

    python benchmarks/checkpoints.py --jar .cache/flink/job-server.jar --checkpoints 200

Runs the readers of tests/relay.py, which count inside a bundle for `--poll` seconds and then defer the rest, and prints
the size of each checkpoint beside the number of defers so far. From both halves follows the growth a defer, and from
that what a day of `--daily_poll` adds.
"""
import argparse
import pathlib
import shutil
import sys
import tempfile
import time

import numpy as np

TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))
from streaming_job import StreamingJob, checkpoints_in, lines_in  # noqa: E402


def size_of(checkpoint):
    """Bytes of a checkpoint; None if it has been replaced meanwhile."""
    try:
        return sum(path.stat().st_size for path in checkpoint.iterdir())
    except FileNotFoundError:
        return None


def measured(folder, asked):
    """Rows (checkpoint, seconds, defers, bytes) until `asked.checkpoints` have been seen."""
    command = [TESTS / "relay.py", f"--folder={folder / 'run' / 'trace'}", f"--checkpoint_dir={folder / 'checkpoints'}",
               f"--checkpointing_interval={asked.interval}", f"--shards={asked.shards}", f"--poll={asked.poll}",
               "--runner=FlinkRunner", f"--flink_job_server_jar={asked.jar}", *asked.options]  # fmt: skip
    job = StreamingJob(command, folder / "run")
    rows, began, seen = [], time.monotonic(), set()
    try:
        while len(rows) < asked.checkpoints and job.process.poll() is None:
            for checkpoint in checkpoints_in(folder / "checkpoints"):
                size = None if checkpoint.name in seen else size_of(checkpoint)
                if size:
                    seen.add(checkpoint.name)
                    defers = max(0, len(lines_in(job.folder / "trace" / "readers.jsonl")) - asked.shards)
                    rows.append((int(checkpoint.name.removeprefix("chk-")), time.monotonic() - began, defers, size))
                    if len(rows) % 20 == 0:
                        number, passed, defers, size = rows[-1]
                        print(f"checkpoint {number:4}  {passed:6.1f} s  {defers:6} defers  {size:9,} bytes", flush=True)
            time.sleep(0.05)
        assert job.process.poll() is None, job.output[-3000:]
    finally:
        job.kill()
    return np.array(rows)


def report(rows, asked):
    """Growth a defer in each half of the run (a fitted line), and what it comes to a day."""
    half = len(rows) // 2
    for name, part in (("first half", rows[:half]), ("second half", rows[half:])):
        defer = np.polyfit(part[:, 2], part[:, 3], 1)[0]
        checkpoint = np.polyfit(part[:, 0], part[:, 3], 1)[0]
        daily = defer * 86400 / asked.daily_poll / 1e6
        print(f"{name}: {defer:,.0f} bytes a defer, {checkpoint:,.0f} a checkpoint; "
              f"{daily:.2f} MB a shard and day at --poll {asked.daily_poll:g}")  # fmt: skip
    print(f"from {rows[0, 3]:,.0f} to {rows[-1, 3]:,.0f} bytes over {len(rows)} checkpoints, {rows[-1, 2]:.0f} defers")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jar", required=True, help="Flink job server")
    parser.add_argument("--checkpoints", type=int, default=200)
    parser.add_argument("--interval", type=int, default=1000, help="milliseconds between checkpoints")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--poll", type=float, default=0.5, help="seconds inside a bundle, here")
    parser.add_argument("--daily_poll", type=float, default=5.0, help="the same, where the daily growth is asked for")
    asked, asked.options = parser.parse_known_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkpoints-"))
    try:
        report(measured(folder, asked), asked)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
