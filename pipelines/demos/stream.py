"""The demonstration of a stream: a minute or so of generated points on Flink, with four shards of which one stands
still for a while; then the page."""
import argparse
import pathlib
import shutil
from collections.abc import Sequence

from rich.console import Console

from beam_coresets.pipelines import stream
from beam_coresets.pipelines.views import report

WINDOWS, HELD_AFTER, HELD = 18, 5, 20  # windows of 5 s; seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Streams for a minute and writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=".demo", help="where results go")
    parser.add_argument("--jar", required=True, help="Flink's job server")
    given = parser.parse_args(argv)
    output, console = pathlib.Path(given.folder) / "out-stream", Console()
    shutil.rmtree(output, ignore_errors=True)
    command = (
        f"--rate 50000 --dim 8 --k 20 --shards 4 --replication 2 --window 5s --deadline 5s --output {output} "
        f"--hold-shards 2:+{HELD_AFTER}s:{HELD}s --max-windows {WINDOWS} --runner FlinkRunner --flink_version 1.19 "
        f"--flink_job_server_jar {given.jar}"
    ).split()
    console.rule("a stream of which shard 2 stands still")
    console.print(f"beam-coresets stream {' '.join(command)}", highlight=False, soft_wrap=True)
    console.print(f"Shard 2 stands still for {HELD} s, {HELD_AFTER} s after the first window that comes in time.",
                  highlight=False)  # fmt: skip
    code = stream.main(command)
    return code or report.main([str(output)])
