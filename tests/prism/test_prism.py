"""What streaming jobs rely on, on Prism: unbounded readers go on, state adds up and timers fire while they do."""
import os
import pathlib

import pytest
from streaming_job import StreamingJob, lines_in

pytestmark = pytest.mark.prism
RELAY = pathlib.Path(__file__).parents[1] / "relay.py"
SHARDS = 4


def tallies(folder):
    return lines_in(folder / "tallies.jsonl")


def goes_on(job, folder):
    """Waits until each shard's timer has fired three times over more than one bundle; nothing lost, nothing twice."""

    def done():
        fired = {line["key"]: line for line in tallies(folder)}
        return len(fired) == SHARDS and all(line["fired"] >= 3 and line["count"] > 10 for line in fired.values())

    job.wait_for(done, "the timers of all shards")
    assert {line["shard"] for line in lines_in(folder / "readers.jsonl")} == set(range(SHARDS))
    assert all(line["count"] == line["largest"] + 1 for line in tallies(folder))


def test_readers_state_and_timers(on_prism, tmp_path):
    trace = tmp_path / "trace"
    goes_on(on_prism("run", [RELAY, f"--folder={trace}"]), trace)


def test_without_a_runner_a_prism_on_the_path_is_chosen(prism, tmp_path):
    trace, folder = tmp_path / "trace", tmp_path / "bin"
    folder.mkdir()
    (folder / "prism").symlink_to(prism)
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    job = StreamingJob([RELAY, f"--folder={trace}"], tmp_path / "run", path)
    try:
        goes_on(job, trace)
        assert "runner = PrismRunner" in job.output
    finally:
        job.kill()
