"""Summaries of one key and of many: names, identities of centers, and tables made at once."""
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import random_block

from beam_coresets import table_schemas, tables
from beam_coresets.coordinator.decision import Policy, decide
from beam_coresets.coordinator.evidence import unpack_evidence
from beam_coresets.points.block import Span
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import summarize, summary_of_keys, with_identities
from beam_coresets.sampling.importance import Sampler
from beam_coresets.shards.assignment import Assignment
from beam_coresets.shards.merge_reduce import MergeReduce, shard_reports
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.streaming.windows import Window

SCHEME = Assignment(4, 2, "cyclic", 16)
SAMPLER = Sampler(3, 30)
QUESTION = Question(SAMPLER)


def decision(rows=80, blocks=3, seed=0, policy=Policy(SCHEME), sampler=SAMPLER, drop=(), **options):  # noqa: B008
    parts = [random_block(rows, Span(0, i, i == blocks - 1), seed=seed, **options) for i in range(blocks)]
    reports = shard_reports(parts, MergeReduce(sampler, SCHEME))
    return decide([report for report in reports if report.shard not in drop], policy)


def test_a_window_without_points_has_empty_tables_in_any_scale():
    nothing = decide([], Policy(SCHEME))  # no points have no width either
    nothing = summarize(nothing, QUESTION, scale=Scale((1.0, 2.0), (3.0, 4.0)))
    assert nothing.summaries.column("points").to_pylist() == [0]
    assert [len(nothing.centers), len(nothing.coreset)] == [0, 0]


def test_why_and_when_it_was_decided_is_said():
    row = summarize(decision(), QUESTION, reason="deadline", decided_at=12.25).answers[0].row
    assert (row["reason"], row["decided_at"], row["partial"]) == ("deadline", 12.25, 0)
    batch = summarize(decision(), QUESTION).answers[0].row
    assert (batch["reason"], batch["decided_at"]) == ("batch", None)


def test_the_evidence_and_the_coreset_give_the_decision_back():
    found = decision(drop=(1, 2))
    summary = summarize(found, QUESTION)
    again = unpack_evidence(summary.summaries.to_pylist()[0], summary.coreset)
    assert again.coreset.points.tolist() == found.coreset.points.tolist()
    assert again.recovery.counts.tolist() == found.recovery.counts.tolist()
    assert again.total_weight == found.total_weight


def test_centers_are_named_and_the_ended_ones_say_where_they_went():
    plain = summarize(decision(), QUESTION, Window(60.0, 120.0, "b"))
    k = len(plain.answers[0].model.centers)
    ids, born, split_from = [f"c{i}" for i in range(k)], [0.0, *[60.0] * (k - 1)], [None, "c0", *[None] * (k - 2)]
    named = with_identities(plain, ids, born, split_from, [("c8", 0.0, "c0"), ("c9", None, None)])
    rows = table_schemas.in_seconds(named.centers).to_pylist()
    assert [row["center_id"] for row in rows] == [*(f"c{i}" for i in range(k)), "c8", "c9"]
    assert [row["index"] for row in rows] == [*range(k), None, None]
    assert [row["merged_into"] for row in rows[k:]] == ["c0", None]
    assert rows[1]["split_from"] == "c0"
    assert all(row["weight"] == row["cost"] == 0 and row["coordinates"] is None for row in rows[k:])
    assert {(row["window_start"], row["key"]) for row in rows} == {(60.0, "b")}
    assert named.centers.slice(0, k).select(plain.centers.column_names[:9]).equals(plain.centers.select(range(9)))
    assert plain.centers.column("center_id").null_count == k
    for form in tables.TABLE_FORMATS:
        read = tables.decode(tables.encode(named.centers, form), form)
        assert table_schemas.typed(read, "centers").equals(named.centers)


def test_a_name_for_every_center_or_none():
    summary = summarize(decision(), QUESTION)
    with pytest.raises(ValueError, match=r"ids: must be one for each of 3 centers, got 1"):
        with_identities(summary, ["a"], [0.0] * 3, [None] * 3)
    with pytest.raises(ValueError, match=r"summary: must be of one key, got 2"):
        with_identities(summary_of_keys(Window(), [summary, summary]), [], [], [])


def test_many_keys_make_the_tables_that_each_makes_alone():
    window = Window(0.0, 60.0, "group 7")
    found = [decision(seed=i, extras=i != 1, rows=(20, 80, 0)[i % 3]) for i in range(4)]
    alone = [summarize(d, QUESTION, Window(0.0, 60.0, f"key-{i}")) for i, d in enumerate(found)]
    whole = summary_of_keys(window, alone)
    assert whole.window is window
    for name in table_schemas.TABLES:
        joined = pa.concat_tables([one.table(name) for one in alone], promote_options="permissive")
        assert repr(whole.table(name).to_pylist()) == repr(joined.to_pylist())  # so that NaN is NaN
        again = pickle.loads(pickle.dumps(whole)).table(name)
        assert tables.encode(again, "parquet") == tables.encode(whole.table(name), "parquet")
    assert whole.summaries.column("key").to_pylist() == ["key-0", "key-1", "key-2", "key-3"]
    assert len(summary_of_keys(window, []).centers) == 0


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_without_answers_there_are_tables_without_rows(form):
    nothing = pickle.loads(pickle.dumps(summary_of_keys(Window(0.0, 60.0, "003"), [])))
    for name in table_schemas.TABLES:
        assert nothing.table(name).schema == table_schemas.SCHEMAS[name]
        again = table_schemas.typed(tables.decode(tables.encode(nothing.table(name), form), form), name)
        assert (again.schema, len(again)) == (table_schemas.SCHEMAS[name], 0)


def test_it_may_start_from_given_centers_and_search_less():
    found = decision(rows=400, sampler=Sampler(3, 200))
    coreset = found.coreset
    full = summarize(found, Question(Sampler(3, 200)))
    quick = summarize(found, Question(Sampler(3, 200), quick=True))
    start = full.answers[0].model.centers[:2] + 0.01
    warm = summarize(found, Question(Sampler(3, 200)), init=start).answers[0].model.centers
    expected = solve_centers(coreset.points, coreset.weights, 3, init=start).centers
    assert np.array_equal(warm, expected)
    best, cheap = (s.centers.column("cost").to_pylist() for s in (full, quick))
    assert sum(best) <= sum(cheap) * (1 + 1e-9) <= 1.1 * sum(best)


@given(st.lists(st.tuples(st.text(max_size=8), st.sampled_from([-5, 0, 5, 10]), st.integers(1, 12)), max_size=8,
                unique=True))  # fmt: skip
def test_names_are_file_names_and_differ(places):
    windows = [Window(float(start), start + 5.0, key, revision) for key, start, revision in places]
    names = [window.name for window in windows]
    assert len(set(names)) == len(names)
    for name in names:
        assert name.isascii()
        assert not set(name) & set("/\\*?[]: \"'<>|&#=")
        assert name[0] not in "._"


def test_long_keys_still_differ():
    names = {Window(0.0, 5.0, key).name for key in ("x" * 1000, "x" * 999 + "y", "ж" * 500)}
    assert len(names) == 3
    assert all(len(name) < 200 for name in names)


@pytest.mark.parametrize(("start", "folder"), [
    (None, ""), (0.0, "day=1970-01-01"), (86399.999, "day=1970-01-01"), (-0.001, "day=1969-12-31"),
    (1795219200.0, "day=2026-11-21"), (1e15, "day=31690708-07-05"),
])  # fmt: skip
def test_files_are_put_by_the_day_of_the_windows_start(start, folder):
    assert Window(start, None if start is None else start + 1).folder == folder


def test_parameters_that_have_a_column_are_in_the_row():
    """`declare(..., column=True)` brings a parameter here by its name."""
    asked = Question(SAMPLER, asked=(("alpha", 2.5),))
    assert summarize(decision(), asked).summaries.to_pylist()[0]["alpha"] == 2.5
