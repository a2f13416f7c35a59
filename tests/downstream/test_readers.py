"""Analysts' programs read the tables: each as `docs/output.md` shows it, with the numbers that our own reader gives."""
import datetime
import re

import duckdb
import numpy as np
import pandas
import polars
import pytest
from documents import ROOT, code_blocks
from jobs import clusters, columns_of, rows_in, summarize_files, write_parquet

from beam_coresets.coordinator.decision import decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.results.summary import summarize, summary_of_keys
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.streaming.events import Event
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing.claims import Claims, order_of

VIEWS = (ROOT / "templates/duckdb/views.sql").read_text()
BLOCKS = code_blocks(ROOT / "docs/output.md")
DAY = 1795219200.0  # 2026-11-21


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A folder with the output folder `out` of a batch in it."""
    folder = tmp_path_factory.mktemp("batch")
    source = write_parquet(folder / "in", columns_of(clusters(2000)))
    assert summarize_files(source, folder / "out", "--k=4", "--shards=4", "--replication=2", "--coreset-size=100") == 0
    return folder


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """The folder of a stream: three windows of two keys, the second window revised, the third without points."""
    folder = tmp_path_factory.mktemp("stream")
    claims = Claims(str(folder), wanted=order_of(False, False, True))
    plan = Plan(k=3, shards=3, replication=2, coreset_size=40, columns=("x", "y"))
    rng = np.random.default_rng(0)
    for key in ("a", "b"):
        for start, revision, rows in ((0, 1, 200), (60, 1, 150), (60, 2, 300), (120, 1, 0)):
            blocks = blocks_of(rng.standard_normal((rows, 2))) if rows else []
            window = Window(DAY + start, DAY + start + 60, key, revision)
            decision = decide(shard_reports(blocks, plan.merge_reduce), plan.policy)
            summary = summarize(decision, plan.question, window, reason="all", decided_at=window.end + 2.5)
            told = [("", Event("revised", "Revision 2.", size=1.0))] if revision == 2 else []
            claims.publish(summary_of_keys(window, [summary], told=told))
    return folder


@pytest.mark.parametrize("code", BLOCKS)
def test_what_the_page_shows_runs(batch, monkeypatch, code):
    monkeypatch.chdir(batch)
    exec(compile(code, "output.md", "exec"), {})


def test_three_libraries_see_the_same_rows(stream):
    ours = rows_in(stream, "summaries")
    by_pandas = pandas.read_parquet(stream / "summaries")
    by_polars = polars.read_parquet(stream / "summaries/**/*.parquet")
    by_duckdb = duckdb.sql(f"SELECT * FROM read_parquet('{stream}/summaries/**/*.parquet')").to_arrow_table()
    for found in (by_pandas["points"].tolist(), by_polars["points"].to_list(), by_duckdb["points"].to_pylist()):
        assert sorted(found) == sorted(row["points"] for row in ours)
    first = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)
    assert by_pandas["window_start"].min() == first
    assert by_polars["window_start"].min() == first
    assert min(by_duckdb["window_start"].to_pylist()) == first
    empty = by_pandas[by_pandas["points"] == 0]
    assert len(empty) == 2
    assert empty["cost"].isna().all()
    assert by_polars.filter(polars.col("points") == 0)["cost"].null_count() == 2, "null, not NaN"


@pytest.fixture(scope="module")
def views(stream):
    """DuckDB with the views over the stream's folder."""
    connection = duckdb.connect()
    connection.execute(f"SET VARIABLE folder = '{stream}'")
    connection.execute(VIEWS)
    return connection


def rows_of(views, query):
    return views.execute(query).fetchall()


def test_a_kept_column_may_be_called_as_the_folders_of_days_are(tmp_path):
    folder = tmp_path / "coreset" / "day=2026-11-21"
    folder.mkdir(parents=True)
    pandas.DataFrame({"id": ["a"], "day": [3]}).to_parquet(folder / "one.parquet")
    connection = duckdb.connect()
    connection.execute(f"SET VARIABLE folder = '{tmp_path}'")
    connection.execute("".join(re.findall(r"CREATE OR REPLACE VIEW coreset AS[^;]*;", VIEWS)))
    assert rows_of(connection, "SELECT * FROM coreset") == [("a", 3)]


def test_the_views_know_revisions_and_the_newest_window(views):
    assert rows_of(views, "SELECT count(*) FROM summaries") == [(8,)]
    assert rows_of(views, "SELECT key, revision, points FROM current WHERE points > 0 ORDER BY key, points") == [
        ("a", 1, 200), ("a", 2, 300), ("b", 1, 200), ("b", 2, 300),
    ]  # fmt: skip
    assert rows_of(views, "SELECT key, epoch(window_start), points FROM latest ORDER BY key") == [
        ("a", DAY + 120, 0), ("b", DAY + 120, 0),
    ]  # fmt: skip


def test_coordinates_go_by_name(views, stream):
    wanted = {(row["key"], *row["coordinates"]) for row in rows_in(stream, "centers")
              if row["revision"] == 2 or row["window_start"] == DAY}  # fmt: skip
    found = rows_of(views, "SELECT key, named['x'], named['y'] FROM centers_named")
    assert (set(found), len(found)) == (wanted, 12)
    points = rows_of(views, "SELECT key, window_start, sum(weight), count(*) FROM coreset_named GROUP BY ALL")
    assert sorted(round(total) for _, _, total, _ in points) == [200, 200, 300, 300]
    assert rows_of(views, "SELECT map_keys(named_coordinates(['v'], [1.0, 2.0]))") == [(["v[0]", "v[1]"],)]
    assert rows_of(views, "SELECT map_keys(named_coordinates(NULL, [1.0]))") == [(["column[0]"],)]


def test_marginals_are_of_the_last_revisions(views, stream):
    asked = "key, epoch(window_start), index, column_name, row_count, mean, p50_low"
    found = rows_of(views, f"SELECT {asked} FROM marginals()")
    by_window = {(row["key"], row["window_start"], row["index"]): row for row in rows_in(stream, "columns")
                 if row["revision"] == 2 or row["window_start"] == DAY}  # fmt: skip
    assert found == [
        (key, start, i, "xy"[i], rows, by_window[key, start, i]["mean"], by_window[key, start, i]["p50_low"])
        for start, rows in ((DAY, 200), (DAY + 60, 300)) for key in "ab" for i in range(2)
    ]  # fmt: skip


def test_health_says_how_late_each_window_was(views):
    found = rows_of(views, "SELECT DISTINCT lag_seconds, coverage, stragglers FROM health WHERE points > 0")
    assert found == [(2.5, 1.0, [])]


def test_events_are_a_table_where_there_are_any(views):
    found = rows_of(views, "SELECT epoch(window_start), revision, kind, size, sentence FROM events()")
    assert found == [(DAY + 60, 2, "revised", 1.0, "Revision 2.")] * 2


def test_each_sampled_row_is_there_once(batch, stream):
    for folder in (batch / "out", stream):
        found = duckdb.sql(
            "SELECT count(*), count(DISTINCT (window_start, key, revision, id, coordinates::TEXT)), max(len(shards)) "
            f"FROM read_parquet('{folder}/coreset/**/*.parquet')"
        ).fetchall()
        ((rows, distinct, holders),) = found
        assert rows == distinct
        assert holders == 2, "with replication 2 some rows are sampled by both of their shards"


# Reserved by BigQuery, or by Spark's ANSI mode.
SQL_WORDS = set(re.findall(
    r"\w+",
    "all and any array as at between by case cast check collate column constraint create cross cube current "
    "default define desc distinct else end enum escape except exclude exists extract false fetch following for "
    "foreign from full grant group grouping groups hash having if ignore in inner intersect interval into is join "
    "lateral leading left like limit lookup merge natural new no not null nulls of on only or order outer over "
    "overlaps partition preceding primary proto qualify range recursive references respect right rollup rows "
    "select session_user set some struct table tablesample then time to trailing treat true unbounded union "
    "unique unnest user using when where window with within "
))


def test_no_column_needs_quotes():
    from beam_coresets.table_schemas import SCHEMAS

    names = {name for schema in SCHEMAS.values() for name in schema.names}
    reserved = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    assert not names & (SQL_WORDS | {word for (word,) in duckdb.sql(reserved).fetchall()})
    for name in sorted(names):
        duckdb.sql(f'SELECT {name}, t.{name} FROM (SELECT 1 AS "{name}") t WHERE {name} = 1 ORDER BY {name}')
