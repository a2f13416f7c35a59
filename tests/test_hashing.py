"""Hashes and seeds: the same everywhere and for ever, and spread evenly."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.hashing import derive_seed, generator, hash_bytes, hash_integers, mix, row_hash, row_multipliers

MASK = 2**64 - 1


def splitmix(value):
    """splitmix64's step in Python integers."""
    z = (value + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@given(st.integers(0, MASK), st.integers(0, MASK))
def test_integers_are_hashed_by_splitmix(value, salt):
    assert int(mix(np.uint64(value))) == splitmix(value)
    assert int(hash_integers(np.array([value], np.uint64), salt)[0]) == splitmix(value ^ salt)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint32])
def test_equal_numbers_of_any_width_have_equal_hashes(dtype):
    values = np.array([0, 1, 100] if np.dtype(dtype).kind == "u" else [-5, 0, 100])
    assert np.array_equal(hash_integers(values.astype(dtype)), hash_integers(values))


def test_reference_values_never_change():
    """Ids and seeds are in users' outputs: another version must give the same."""
    assert hash_integers(np.array([0, 1], np.uint64)).tolist() == [16294208416658607535, 10451216379200822465]
    assert derive_seed("bucket", 0) == int.from_bytes(
        __import__("hashlib").blake2b(b"('bucket', 0)", digest_size=8).digest(), "little"
    )


@given(st.lists(st.binary(max_size=12), max_size=8), st.integers(0, MASK))
def test_byte_strings_hash_alike_wherever_they_lie(values, salt):
    def hashed(strings):
        offsets = np.cumsum([0, *map(len, strings)]).astype(np.int64)
        return hash_bytes(offsets, np.frombuffer(b"".join(strings), np.uint8), salt)

    together = hashed(values)
    assert together.tolist() == [int(hashed([v])[0]) for v in values]
    assert len(set(together.tolist())) == len(set(values))


def test_hashes_spread_evenly():
    """Chi-square of 100,000 consecutive numbers over 1024 buckets: a random map fails with probability 1e-5."""
    counts = np.bincount(hash_integers(np.arange(100_000)) % np.uint64(1024), minlength=1024)
    chi = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert abs(chi - 1023) < 4.5 * (2 * 1023) ** 0.5


def test_a_row_hash_depends_on_every_word_and_its_place():
    words = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.uint32)
    multipliers = row_multipliers(3)
    assert (multipliers % np.uint64(2) == 1).all()
    assert len({int(row_hash(words, i, multipliers)) for i in range(5)}) == 5


def test_seeds_depend_on_every_part_and_the_order():
    seeds = [derive_seed(*p) for p in [(1, 2), (2, 1), (1,), (12,), ("1", 2), (1, 2, 0), (1, (2,))]]
    assert len(set(seeds)) == len(seeds)
    assert generator(1, "a").random() == generator(1, "a").random()
    assert generator(1, "a").random() != generator(1, "b").random()


def test_numpy_numbers_seed_as_python_numbers():
    """A shard's number may come from an array on one worker and from a message on another."""
    assert derive_seed(np.int64(3), np.float64(0.5), "x") == derive_seed(3, 0.5, "x")
