"""What a page says of a constraint: what each cluster is held to, what it has, and what is binding."""
import collections
import hashlib
import json

import numpy as np
import pyarrow as pa
import pytest
from jobs import clusters, columns_of, rows_in, summarize_files, write_parquet
from windows_written import answer, minute, write

from beam_coresets import tables
from beam_coresets.hashing import generator
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.views.contents import contents_at

N = 240  # all of them in the coreset, so that there are as many of both groups
KINDS = {  # options of solve, and the names of the bounds
    "--min_size 78": "min_size", "--max_size 81": "max_size", "--balanced 0.01": "balanced",
    "--gamma 60,80,100": "gamma", "--fair f=0.48:0.52": "fair f", "--diversity 2": "diversity of f",
    "--diversity 2 --diversity_reading least": "diversity of m",
    "--fair all=0.1: --label_groups f=all,women --label_groups m=men": "fair all",
    "--min_size 20,40,60 --fair m=:0.6": "min_size",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("bounds")
    points = clusters(N)
    order = np.argsort((points[:, 0] > 10) + generator("label").normal(size=N), kind="stable")
    label = np.where(np.argsort(order) < N // 2, "m", "f")  # as many of both, more of one on each side
    source = write_parquet(where / "in", columns_of(points) | {"sex": label})
    base = ("--k", "3", "--shards", "2", "--coreset_size", "400", "--columns", "x0,x1,x2", "--group_column", "sex")
    assert summarize_files(source, where / "out", *base) == 0
    return where / "out"


def solved(folder, to, options):
    assert main(["solve", "--input", str(folder), "--output", str(to), *options.split()]) == 0
    return contents_at(str(to))["latest"][0]["bounds"]


def rows_of(bounds):
    names = [name for name in bounds if name != "said"]
    return [dict(zip(names, row, strict=True)) for row in zip(*(bounds[name] for name in names), strict=True)]


@pytest.mark.parametrize("options", KINDS)
def test_each_kind_of_bound_is_shown_as_the_clusters_have_it(folder, tmp_path, options):
    found = rows_of(solved(folder, tmp_path / "to", options))
    assert KINDS[options] in {row["name"] for row in found}
    centers = rows_in(tmp_path / "to", "centers")
    for row in found:
        center = centers[int(row["cluster"])]
        if not row["share"]:
            held = center["weight"]
        else:
            group = row["name"].rpartition(" ")[2]
            labels = ("f",) if group == "all" else (group,)
            weights = dict(zip(center["group_labels"], center["group_weights"], strict=True))
            assert sum(weights.values()) == pytest.approx(center["weight"])
            held = sum(weights[label] for label in labels) / center["weight"]
        assert row["held"] == pytest.approx(held, rel=1e-4)
        room = {"at least": held - row["bound"], "at most": row["bound"] - held, "exactly": -abs(held - row["bound"])}
        near = 1e-4 * max(held, row["bound"])
        assert row["room"] == pytest.approx(room[row["side"]], abs=near)
        assert (row["state"] == "binding") == (abs(room[row["side"]]) < 1e-6 * max(1, held)), row
    states = collections.Counter(row["state"] for row in found)
    assert not states["violated"]
    if "label_groups" not in options:
        assert states["binding"], "or the test says nothing"


def test_groups_add_up_to_those_of_the_data(folder, tmp_path):
    solved(folder, tmp_path / "to", "--fair f=0.48:0.52")
    of_data, of_clusters = collections.Counter(), collections.Counter()
    for row in rows_in(tmp_path / "to", "coreset"):
        of_data[row["group_label"]] += row["weight"]
    for row in rows_in(tmp_path / "to", "centers"):
        of_clusters.update(dict(zip(row["group_labels"], row["group_weights"], strict=True)))
    assert dict(of_clusters) == pytest.approx(dict(of_data))
    assert rows_in(folder, "centers")[0]["group_labels"] is None, "without a constraint there is nothing to say"


def test_what_rounding_has_moved_is_said_to_be_violated(folder, tmp_path):
    bounds = solved(folder, tmp_path / "to", "--gamma 60.3,79.7,100 --rounded")
    violated = [row for row in rows_of(bounds) if row["state"] == "violated"]
    assert violated
    assert all(row["room"] < 0 for row in violated)
    assert f"{len(violated)} {'is' if len(violated) == 1 else 'are'} violated." in bounds["said"][0]
    assert "The worst is missed by " in bounds["said"][1]
    assert rows_of(bounds)[0]["state"] == "violated", "the worst come first"


def test_each_k_of_a_range_has_its_own(folder, tmp_path):
    assert main(["solve", "--input", str(folder), "--output", str(tmp_path / "to"), "--k", "2:3", "--balanced", "0",
                 "--fair", "m=:0.9"]) == 0  # fmt: skip
    found = [rows_of(latest["bounds"]) for latest in contents_at(str(tmp_path / "to"))["latest"]]
    assert [sorted(row["bound"] for row in rows if not row["share"]) for rows in found] == [
        [pytest.approx(N / k, rel=1e-3)] * k for k in (2, 3)
    ]


def test_without_a_constraint_there_are_none(folder):
    assert contents_at(str(folder))["latest"][0]["bounds"] == {}


def test_of_many_bounds_the_tightest_are_shown(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("beam_coresets.pipelines.views.newest.MOST_BOUNDS", 3)
    bounds = solved(folder, tmp_path / "to", "--balanced 0.01")
    assert len(rows_of(bounds)) == 3
    assert bounds["said"][-1] == "The tightest 3 are shown."
    assert "Of 6 bounds " in bounds["said"][0]


def rewrite(folder, table, change):
    """A table as another one would have written it, with its claim."""
    (path,) = (folder / table).rglob("*.parquet")
    path.write_bytes(tables.encode(change(tables.decode(path.read_bytes(), "parquet")), "parquet"))
    (claim,) = (folder / ".claims").glob("*.json")
    said = json.loads(claim.read_text())
    said["files"][table]["digest"] = hashlib.sha256(path.read_bytes()).hexdigest()
    claim.write_text(json.dumps(said))


def test_a_result_that_does_not_have_the_groups_shows_sizes_and_says_so(folder, tmp_path):
    solved(folder, tmp_path / "to", "--balanced 0.01 --fair f=0.48:0.52")
    rewrite(tmp_path / "to", "centers", lambda table: table.drop_columns(["group_labels", "group_weights"]))
    bounds = contents_at(str(tmp_path / "to"))["latest"][0]["bounds"]
    assert {row["name"] for row in rows_of(bounds)} == {"balanced"}
    assert "was not written yet by the version that made this" in bounds["said"][-1]


def test_a_constraint_without_clusters_says_so(tmp_path):
    write(tmp_path / "out", answer(minute(0), 0, missing=(0, 1, 2, 3)))
    rewrite(tmp_path / "out", "summaries", lambda table: with_text(table, "balanced=0.1"))
    latest = contents_at(str(tmp_path / "out"))["latest"][0]
    assert latest["bounds"] == {"said": ["There are no centers, so there are no clusters that keep to the constraint."]}


def test_a_constraint_that_the_rows_can_not_meet_says_why(folder, tmp_path):
    solved(folder, tmp_path / "to", "--balanced 0.01")
    rewrite(tmp_path / "to", "centers", lambda table: table.slice(0, 0))
    rewrite(tmp_path / "to", "summaries", lambda table: with_text(table, "max_size=10.0"))
    (said,) = contents_at(str(tmp_path / "to"))["latest"][0]["bounds"]["said"]
    assert said.startswith("Nothing can be told of the constraint: max_size: must be possible to meet")


@pytest.mark.parametrize("text", ["weight=3", "balanced=0.1 gamma=1.0,2.0", "fair=nobody:0.1:0.2", "min_size=1.0,2.0"])
def test_another_text_is_no_error(folder, tmp_path, text):
    solved(folder, tmp_path / "to", "--fair f=0.1:0.9")
    rewrite(tmp_path / "to", "summaries", lambda table: with_text(table, text))
    (said,) = contents_at(str(tmp_path / "to"))["latest"][0]["bounds"]["said"]
    assert said.startswith("Nothing can be told of the constraint: ")


def with_text(table, text):
    at = table.column_names.index("constraint_text")
    return table.set_column(at, "constraint_text", pa.array([text] * len(table), pa.string()))
