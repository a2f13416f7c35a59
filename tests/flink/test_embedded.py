"""What streaming jobs need of a real Flink: all readers start, timers fire, shards stand alone, kills lose nothing."""
import json
import subprocess

import pytest
from streaming_job import checkpoints_in, lines_in

from beam_coresets.hashing import generator
from beam_coresets.streaming.placement import encoded, placed_elements, subtask_of

pytestmark = pytest.mark.flink
SHARDS = 4

PLACEMENT = """
import java.nio.ByteBuffer;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;
public class Placement {
  public static void main(String[] args) {
    for (int i = 0; i < args.length; i += 3) {
      ByteBuffer key = ByteBuffer.allocate(args[i].length() / 2);
      for (int j = 0; j < args[i].length(); j += 2) {
        key.put((byte) Integer.parseInt(args[i].substring(j, j + 2), 16));
      }
      key.flip();
      int most = Integer.parseInt(args[i + 1]), parallelism = Integer.parseInt(args[i + 2]);
      System.out.println(KeyGroupRangeAssignment.assignKeyToParallelOperator(key, most, parallelism));
    }
  }
}
"""


def starts(job):
    """The offsets at which each shard's bundles started."""
    found = {}
    for line in lines_in(job.folder / "trace" / "readers.jsonl"):
        found.setdefault(line["shard"], []).append(line["start"])
    return found


def tallies(job):
    return lines_in(job.folder / "trace" / "tallies.jsonl")


def latest(job):
    """The last tally of each shard."""
    return {line["key"]: line for line in tallies(job)}


def moved(job, since, by, besides=()):
    """Whether every shard's bundles, but those of `besides`, started `by` numbers further than `since` says."""
    now = starts(job)
    return all(now[shard][-1] >= since[shard] + by for shard in since if shard not in besides)


def test_placement_is_what_flink_computes(jar, tmp_path):
    rng = generator("placement", 7)
    drawn = zip(rng.integers(0, 40, 40), rng.integers(1, 129, 40), strict=True)
    cases = [(rng.bytes(int(length)), 128, int(parallelism)) for length, parallelism in drawn]
    cases += [(encoded(element), 128, SHARDS) for element in placed_elements(SHARDS, SHARDS)]
    (tmp_path / "Placement.java").write_text(PLACEMENT)
    words = [str(word) for key, most, parallelism in cases for word in (key.hex(), most, parallelism)]
    done = subprocess.run(
        ["java", "-cp", jar, tmp_path / "Placement.java", *words], capture_output=True, text=True, check=True
    )
    assert [int(line) for line in done.stdout.split()] == [subtask_of(key, p, most) for key, most, p in cases]


def test_a_killed_job_goes_on_from_its_retained_checkpoint(relay, tmp_path):
    first = relay("first")
    first.wait_for(lambda: len(starts(first)) == SHARDS, "all readers")
    first.wait_for(lambda: len(latest(first)) == SHARDS, "a timer of every shard")
    seen = len(checkpoints_in(tmp_path / "checkpoints"))
    before = latest(first)
    first.wait_for(lambda: _least(first) > 8, "more bundles")
    first.wait_for(lambda: _number(checkpoints_in(tmp_path / "checkpoints")) > seen + 3, "checkpoints after that")
    first.kill()
    retained = checkpoints_in(tmp_path / "checkpoints")[-1]

    second = relay("second", f"--resume_from={retained}")
    second.wait_for(lambda: len(latest(second)) == SHARDS, "the timers of the second run")
    assert all(bundles[0] > 0 for bundles in starts(second).values()), "a reader began again"
    assert sorted(starts(second)) == list(range(SHARDS))
    for line in tallies(first) + tallies(second):
        assert line["count"] == line["largest"] + 1, "a number was lost or counted twice"
    for key, line in latest(second).items():
        assert line["count"] > before[key]["count"], "state from before the kill is gone"
        assert line["fired"] > before[key]["fired"], "the timer's state is gone"


def _number(checkpoints):
    return max((int(path.name.removeprefix("chk-")) for path in checkpoints), default=0)


def test_checkpoints_do_not_grow_with_each_deferral(relay, tmp_path):
    job = relay("run", "--poll=0.1")

    def settled(deferrals):
        job.wait_for(lambda: _least(job) >= deferrals, "deferrals")
        known = _number(checkpoints_in(tmp_path / "checkpoints"))
        job.wait_for(lambda: _number(checkpoints_in(tmp_path / "checkpoints")) > known + 1, "a checkpoint after them")
        newest = checkpoints_in(tmp_path / "checkpoints")[-1]
        return sum(path.stat().st_size for path in newest.iterdir())

    early = settled(25)  # each reader has used all the names that it will
    later = settled(75)
    assert later < early + 50_000, "about 1,000,000 bytes more: a state name for each deferral"


def _least(job):
    return min((len(bundles) for bundles in starts(job).values()), default=0)


def test_a_held_shard_leaves_the_others_alone(relay):
    job = relay("run")
    job.wait_for(lambda: len(starts(job)) == SHARDS, "all readers")
    hold = job.folder / "trace" / "hold-2"
    hold.touch()
    job.wait_for((job.folder / "trace" / "held.jsonl").exists, "the hold")
    held = starts(job)
    since = {shard: bundles[-1] for shard, bundles in held.items()}
    job.wait_for(lambda: moved(job, since, 60, besides=(2,)), "the others to go on")
    assert starts(job)[2] == held[2]
    hold.unlink()
    job.wait_for(lambda: moved(job, since, 70), "the held one to catch up")


def test_a_reader_that_keeps_failing_ends_the_job_with_its_message(relay):
    job = relay("run", "--elements", json.dumps(["0:0", "not a shard"]))
    assert job.wait() != 0
    assert "not a shard" in job.output
