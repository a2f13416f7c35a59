"""Placement: the elements of shards land where they should, the same everywhere. Flink's own answer: tests/flink."""
import subprocess
import sys

import pytest
from apache_beam.coders import StrUtf8Coder, TupleCoder
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.streaming.placement import encoded, placed_elements, placed_key, shard_of, subtask_of

# Computed by Flink 1.19's KeyGroupRangeAssignment for 128 key groups: (key, parallelism, subtask).
KNOWN = [("0:0", 4, 0), ("1:1", 4, 1), ("2:13", 4, 2), ("3:8", 4, 3), ("3:0", 4, 1), ("größe", 85, 38), ("", 128, 123)]


@pytest.mark.parametrize(("key", "parallelism", "subtask"), KNOWN)
def test_known_placements(key, parallelism, subtask):
    assert subtask_of(encoded(key), parallelism) == subtask


@given(st.text(max_size=300))
def test_a_key_is_encoded_as_beam_nests_it(text):
    nested = TupleCoder([StrUtf8Coder(), StrUtf8Coder()]).encode((text, ""))
    assert encoded(text) == nested[: len(encoded(text))]
    assert len(encoded(text)) >= len(text) + 1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(40, 300))
def test_every_shard_lands_on_its_subtask(shards, parallelism, most):
    elements = placed_elements(shards, parallelism, most)
    assert [shard_of(element) for element in elements] == list(range(shards))
    landed = [subtask_of(encoded(element), parallelism, most) for element in elements]
    assert landed == [shard % parallelism for shard in range(shards)]


def test_other_keys_can_be_placed_too():
    replicas = [placed_key(f"window 7/{replica}", replica, 4) for replica in range(4)]
    assert [subtask_of(encoded(key), 4) for key in replicas] == [0, 1, 2, 3]
    assert [key.rpartition(":")[0] for key in replicas] == [f"window 7/{replica}" for replica in range(4)]


def test_elements_are_the_same_in_every_process():
    code = "from beam_coresets.streaming.placement import placed_elements as p; print(p(9, 3))"
    other = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "5"}, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == str(placed_elements(9, 3))


@pytest.mark.parametrize(
    ("shards", "parallelism", "most", "message"),
    [
        (0, 1, 128, "shards: must be at least 1, got 0"),
        (2, 0, 128, "parallelism: must be within 1 .. max_parallelism = 128, got 0"),
        (2, 129, 128, "parallelism: must be within 1 .. max_parallelism = 128, got 129"),
        (2, 2, 1 << 16, "max_parallelism: must be within 1 .. 32768, got 65536"),
    ],
)
def test_what_flink_does_not_allow_is_refused(shards, parallelism, most, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        placed_elements(shards, parallelism, most)
