"""Assignment schemes: how many holders, which loads, which domains; and the cut of a block by shard."""
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.hashing import generator
from beam_coresets.points.block import PointBlock, Span
from beam_coresets.shards.assignment import PARTS_OF_IDS, SCHEMES, Assignment, part_ids, split

EXACT = ("uniform", "cyclic", "fractional")


def block_of(n, dim=3, dtype=np.float32, seed=0, groups=False, extras=False):
    rng = generator("test block", n, seed)
    return PointBlock(
        rng.normal(size=(n, dim)).astype(dtype),
        rng.random(n),
        rng.integers(0, 2**64, n, dtype=np.uint64),
        Span(3, 5),
        rng.integers(0, 4, n).astype(np.int32) if groups else None,
        pa.table({"id": [f"row {i}" for i in range(n)]}) if extras else None,
    )


@st.composite
def schemes(draw, kinds=SCHEMES, domains=True):
    s = draw(st.integers(1, 12))
    kind = draw(st.sampled_from(kinds))
    of = None
    if domains and kind != "bernoulli" and draw(st.booleans()):
        of = tuple(draw(st.lists(st.integers(0, 4), min_size=s, max_size=s)))
    r = draw(st.integers(1, s if of is None else len(set(of))))
    return Assignment(s, r, kind, draw(st.sampled_from([16, 61, 128])), draw(st.integers(0, 5)), of)


@settings(deadline=None)
@given(schemes())
def test_holders_are_the_columns_of_the_matrix(scheme):
    indptr, shards = scheme.holders()
    matrix = scheme.matrix()
    assert matrix.shape == (scheme.shards, scheme.buckets)
    assert matrix.dtype == np.bool_
    for g in range(scheme.buckets):
        assert shards[indptr[g] : indptr[g + 1]].tolist() == np.flatnonzero(matrix[:, g]).tolist()
    for shard in range(scheme.shards):
        assert scheme.held_by(shard).tolist() == np.flatnonzero(matrix[shard]).tolist()


@settings(deadline=None)
@given(schemes(EXACT))
def test_every_bucket_has_its_replicas_in_different_domains(scheme):
    matrix = scheme.matrix()
    holders = matrix.sum(axis=0)
    if scheme.kind == "fractional":
        assert holders.min() >= scheme.replication
    else:
        assert (holders == scheme.replication).all()
    assert scheme.tolerates() == holders.min() - 1
    if scheme.domains is not None:
        domains = np.array(scheme.domains)
        distinct = sum(matrix[domains == d].any(axis=0).astype(int) for d in set(scheme.domains))
        assert distinct.min() >= scheme.replication


@settings(deadline=None)
@given(schemes(("cyclic", "fractional"), domains=False))
def test_loads_differ_by_one_bucket_at_most(scheme):
    held = scheme.matrix().sum(axis=1)
    assert held.max() - held.min() <= 1


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 4))
def test_loads_stay_even_when_domains_allow_it(per_domain, replication):
    domains = tuple(i % 5 for i in range(5 * per_domain))
    held = Assignment(len(domains), replication, "cyclic", 64, domains=domains).matrix().sum(axis=1)
    assert held.max() - held.min() <= 1


@settings(deadline=None)
@given(schemes(("fractional",)))
def test_shards_of_a_group_hold_the_same_buckets(scheme):
    matrix = scheme.matrix()
    shared = matrix.astype(int) @ matrix.T.astype(int)
    held = matrix.sum(axis=1)
    assert ((shared == 0) | (shared == held[:, None])).all()


def test_fractional_makes_as_many_groups_as_fit():
    assert len(np.unique(Assignment(11, 3, "fractional").matrix(), axis=0)) == 3


def test_bernoulli_draws_each_pair_with_probability_l_over_s():
    """A mean of 200,000 Bernoulli(0.2) draws is within 5 standard deviations but for a probability of 6e-7."""
    share = Assignment(100, 20, "bernoulli", 2000).matrix().mean()
    assert abs(share - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 200_000)


def test_uniform_loads_are_those_of_random_choices():
    """Holdings of one shard are Binomial(20000, 0.3); ten within 5 deviations but for a probability of 6e-6."""
    held = Assignment(10, 3, "uniform", 20_000).matrix().sum(axis=1)
    assert np.abs(held - 6000).max() < 5 * np.sqrt(20_000 * 0.3 * 0.7)


def test_the_matrix_is_a_pure_function_and_read_only():
    first, again = Assignment(7, 2, "uniform", seed=3), Assignment(7, 2, "uniform", seed=3)
    assert (first.matrix() == again.matrix()).all()
    assert (first.matrix() != Assignment(7, 2, "uniform", seed=4).matrix()).any()
    with pytest.raises(ValueError, match="read-only"):
        first.matrix()[0, 0] = True


def test_buckets_are_filled_evenly_and_agree_between_kinds():
    """Counts of 64 buckets are Binomial(64000, 1/64); all within 6 deviations but for a probability of 2e-7."""
    ids = np.arange(64_000, dtype=np.uint64)
    bucket = Assignment(5, 2, "cyclic", 64).bucket_of(ids)
    assert bucket.dtype == np.int32
    assert (bucket == Assignment(8, 3, "uniform", 64).bucket_of(ids)).all()
    assert (bucket != Assignment(5, 2, "cyclic", 64, seed=1).bucket_of(ids)).any()
    assert np.abs(np.bincount(bucket, minlength=64) - 1000).max() < 6 * np.sqrt(1000)


def test_a_power_of_two_is_reduced_like_any_other_number():
    ids = generator("ids").integers(0, 2**64, 1000, dtype=np.uint64)
    assert (Assignment(2, 2, buckets=1024).bucket_of(ids) == Assignment(2, 2, buckets=3072).bucket_of(ids) % 1024).all()


@settings(deadline=None)
@given(schemes(), st.integers(0, 300), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_split_gives_every_shard_its_rows_in_order(scheme, n, dtype, labelled):
    block = block_of(n, dtype=dtype, groups=labelled, extras=labelled)
    parts = split(block, scheme)
    assert len(parts) == scheme.shards
    bucket = scheme.bucket_of(block.ids)
    for shard, part in enumerate(parts):
        expected = block.take(np.flatnonzero(scheme.matrix()[shard][bucket]))
        assert part.to_bytes() == expected.to_bytes()


def test_split_reads_blocks_that_are_not_writable():
    block = block_of(50)
    for array in (block.points, block.weights, block.ids):
        array.setflags(write=False)
    assert sum(map(len, split(block, Assignment(4, 2, buckets=8)))) == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 3, "replication": 5}, "replication: must be at most the 3 shards, got 5"),
        ({"shards": 0}, "shards: must be at least 1, got 0"),
        ({"shards": 3, "replication": 0}, "replication: must be at least 1, got 0"),
        ({"shards": 3, "kind": "random"}, "kind: must be one of bernoulli, uniform, cyclic, fractional, got 'random'"),
        ({"shards": 10, "buckets": 4}, "buckets: must be from 5 .* got 4"),
        ({"shards": 3, "domains": (0, 1)}, "domains: must name one for each of the 3 shards, got 2"),
        ({"shards": 3, "domains": (0, 0, 0)}, "replication: must be at most the 1 failure domains, got 2"),
        ({"shards": 2, "domains": (0, 1), "kind": "bernoulli"}, "domains: must be None for kind bernoulli"),
    ],
)
def test_parameters_that_cannot_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Assignment(**options)


def test_numbers_must_be_integers():
    with pytest.raises(TypeError, match=r"shards: must be an integer, got 2\.5"):
        Assignment(2.5)
    assert Assignment(np.int64(4), 2, domains=[0, 1, 0, 1]) == Assignment(4, 2, domains=(0, 1, 0, 1))


@given(st.integers(0, PARTS_OF_IDS - 1), st.lists(st.integers(0, 2**64 - 1), max_size=9))
def test_ids_name_their_part_and_keep_what_tells_rows_apart(part, rows):
    ids = part_ids(part, np.array(rows, np.uint64))
    assert ids.dtype == np.uint64
    assert (ids >> np.uint64(48)).tolist() == [part] * len(rows)
    assert (ids & np.uint64(2**48 - 1)).tolist() == [row % 2**48 for row in rows]


@given(st.integers(1, 6), st.integers(0, 3), st.lists(st.integers(0, 15), min_size=1, max_size=40))
def test_a_part_is_a_bucket(shards, seed, parts):
    scheme = Assignment(shards, min(2, shards), "cyclic", 16, seed, parts=True)
    rows = np.arange(len(parts), dtype=np.uint64)
    ids = np.array([part_ids(p, rows[i : i + 1])[0] for i, p in enumerate(parts)], np.uint64)
    assert scheme.bucket_of(ids).tolist() == parts
    block = PointBlock(np.zeros((len(ids), 2), np.float32), np.ones(len(ids)), ids, Span(0, 0))
    for shard, held in enumerate(split(block, scheme)):
        mine = [p for p in parts if scheme.matrix()[shard, p]]
        assert scheme.bucket_of(held.ids).tolist() == mine


def test_there_is_room_for_so_many_parts_only():
    Assignment(4, buckets=PARTS_OF_IDS, parts=True)
    with pytest.raises(ValueError, match=f"buckets: must be .*{PARTS_OF_IDS}"):
        Assignment(4, buckets=PARTS_OF_IDS + 1, parts=True)
