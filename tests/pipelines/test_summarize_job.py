"""`beam-coresets summarize`, whole: files in, tables out."""
import functools
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from jobs import CENTERS, clusters, columns_of, rows_in, summarize_files, summary_row, without_beam, write_parquet

from beam_coresets import table_schemas, tables
from beam_coresets.hashing import generator
from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines import summarize as job
from beam_coresets.points.nearest import nearest
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.parts import row_names
from beam_coresets.transforms.writing.stored_tables import read_table

N = 3000
BASE = ("--k", "4", "--shards", "10", "--replication", "3", "--coreset_size", "60")
TWO_WORKERS = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The glob of three Parquet files with points x0, x1, x2 and a weight w."""
    columns = columns_of(clusters(N)) | {"w": np.arange(N) % 4 / 2.0}
    return write_parquet(tmp_path_factory.mktemp("points"), columns)


POINTS = ("--columns", "x0,x1,x2")


def coreset_bytes(output):
    return (output / "coreset" / "global-r1.parquet").read_bytes()


def away_from(truth, found):
    """How far each true center is from the nearest found one."""
    return np.sqrt(nearest(np.asarray(truth, np.float64), np.asarray(found))[1])


def centers_in(output):
    return np.array([row["coordinates"] for row in rows_in(output, "centers")])


def test_the_tables_are_the_direct_calls_and_have_the_promised_fields(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path, *BASE, *POINTS, "--drop_shards", "1,4") == 0
    read = ReadBlocks(source, job.options.Columns(("x0", "x1", "x2")))
    plan = Plan(k=4, shards=10, replication=3, coreset_size=60, drop_shards=(1, 4))
    expected = without_beam(read.here(), plan, row_names(read.files), columns=("x0", "x1", "x2"), refused=0)
    for name in table_schemas.TABLES:
        assert (tmp_path / name / "global-r1.parquet").read_bytes() == tables.encode(expected.table(name), "parquet")
    promised = {
        "summaries": "shards responded stragglers distrusted coverage delta total_weight cost cost_low cost_high "
        "points",
        "centers": "index coordinates weight cost representative_id",
        "coreset": "id coordinates weight weight_ht bucket group_label shards",
    }
    for name, fields in promised.items():
        assert set(fields.split()) <= set(rows_in(tmp_path, name)[0])
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("8 of 10 shards; missing: 1, 4", "coverage  1", "3,000", "95 % interval", " points/s"):
        assert text in out


@pytest.mark.parametrize("weights", [(), ("--weight_column", "w")], ids=["plain", "weighted"])
def test_same_input_same_seed_same_bytes(source, tmp_path, weights, monkeypatch):
    # many parts, so that there is something to divide between workers
    monkeypatch.setattr(job, "ReadBlocks", functools.partial(ReadBlocks, part_bytes=4000))
    moved = tmp_path / "moved"
    shutil.copytree(source.rsplit("/", 1)[0], moved)
    globs = [f"{moved}/part-{i}.parquet" for i in (2, 0, 1)]
    runs = [(source, ()), (source, ()), (source, TWO_WORKERS), (globs, ()), (globs[::-1], TWO_WORKERS)]
    for i, (files, more) in enumerate(runs):
        assert summarize_files(files, tmp_path / f"out{i}", *BASE, *POINTS, *weights, *more) == 0
    first = coreset_bytes(tmp_path / "out0")
    assert all(coreset_bytes(tmp_path / f"out{i}") == first for i in range(1, len(runs)))
    total = (np.arange(N) % 4 / 2.0).sum() if weights else N
    assert summary_row(tmp_path / "out0")["total_weight"] == pytest.approx(total, rel=1e-12)
    assert summarize_files(source, tmp_path / "other", *BASE, *POINTS, "--seed", "1") == 0
    assert coreset_bytes(tmp_path / "other") != first


@pytest.mark.parametrize("recovery", ["exact", "uniform", "lp"])
@pytest.mark.parametrize("scheme", ["uniform", "cyclic", "fractional"])
def test_two_stragglers_of_l_three_cost_nothing(source, tmp_path, scheme, recovery):
    options = ("--k", "4", "--shards", "9", "--tolerate", "2", "--scheme", scheme, "--recovery", recovery)
    assert summarize_files(source, tmp_path, *options, *POINTS, "--drop_shards", "1,4") == 0
    row = summary_row(tmp_path)
    assert (row["coverage"], row["stragglers"], row["recovery"], row["scheme"]) == (1.0, [1, 4], recovery, scheme)
    assert row["total_weight"] == pytest.approx(N, rel=1e-9)
    assert row["points"] == N
    assert away_from(CENTERS, centers_in(tmp_path)).max() < 0.5


def test_bernoulli_says_what_it_lost(source, tmp_path):
    options = ("--k", "4", "--shards", "10", "--replication", "3", "--scheme", "bernoulli", "--drop_shards", "0,5")
    assert summarize_files(source, tmp_path, *options, *POINTS) == 0
    row = summary_row(tmp_path)
    # a bucket has no holder among the 8 left with probability 0.7**8 = 0.058
    assert 0.9 < row["coverage"] < 0.98
    assert row["points"] < N
    assert row["total_weight"] == pytest.approx(N, rel=0.03)


def test_without_replicas_the_loss_is_reported_and_scaled_over(source, tmp_path, capsys):
    options = ("--k", "4", "--shards", "10", "--replication", "1", "--drop_shards", "1,4", "--min_shards", "9")
    assert summarize_files(source, tmp_path, *options, *POINTS) == 0
    row = summary_row(tmp_path)
    assert row["coverage"] == pytest.approx(0.8, abs=0.01)
    # the covered part is binomial(3000, 0.8): 5 standard deviations are 4.6 % of the scaled total
    assert row["total_weight"] == pytest.approx(N, rel=0.046)
    assert row["points"] == pytest.approx(0.8 * N, rel=0.046)
    assert row["cost_low"] < row["cost"] < row["cost_high"]
    assert row["degraded"] is True
    out = capsys.readouterr().out
    assert "(the rest was scaled over)" in out
    assert "(degraded)" in out


def test_a_whole_failure_domain_may_go(source, tmp_path):
    options = ("--k", "4", "--shards", "9", "--replication", "2", "--domains", "0,0,0,1,1,1,2,2,2")
    assert summarize_files(source, tmp_path, *options, *POINTS, "--drop_shards", "3,4,5") == 0
    assert summary_row(tmp_path)["coverage"] == 1.0


@pytest.mark.parametrize("z", ["1", "3"])
@pytest.mark.parametrize("method", ["sensitivity", "uniform", "lightweight"])
def test_other_powers_and_methods(source, tmp_path, z, method):
    assert summarize_files(source, tmp_path, *BASE, *POINTS, "--z", z, "--method", method) == 0
    row = summary_row(tmp_path)
    assert (row["z"], row["method"], row["centers"]) == (float(z), method, 4)
    points = clusters(N).astype(np.float64)
    cost = (nearest(points, centers_in(tmp_path))[1] ** (float(z) / 2)).sum()
    assert row["cost"] == pytest.approx(cost, rel=0.25)
    assert away_from(CENTERS, centers_in(tmp_path)).max() < 0.7


@pytest.mark.parametrize("z", ["1", "2"])
def test_cosine_end_to_end(tmp_path, z):
    rng = generator("directions")
    truth = np.linalg.qr(rng.standard_normal((16, 16)))[0][:4]
    points = truth[rng.integers(0, 4, 2000)] + 0.1 * rng.standard_normal((2000, 16))
    lengths = rng.uniform(0.1, 50, (2000, 1))
    vectors = pa.array(list((points * lengths).astype(np.float32)), pa.list_(pa.float32(), 16))
    source = write_parquet(tmp_path / "in", {"v": vectors})
    options = ("--vector_column", "v", "--metric", "cosine", "--k", "4", "--z", z, "--replication", "2")
    assert summarize_files(source, tmp_path / "out", *options) == 0
    coreset = np.array(read_table(str(tmp_path / "out"), "coreset").column("coordinates").to_pylist())
    assert np.allclose(np.linalg.norm(coreset, axis=1), 1, atol=1e-6)
    centers = centers_in(tmp_path / "out")
    assert np.allclose(np.linalg.norm(centers, axis=1), 1, atol=1e-6)
    assert (truth @ centers.T).max(axis=1).min() > 0.99
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    away = 1 - (unit @ centers.T).max(axis=1)
    row = summary_row(tmp_path / "out")
    assert row["metric"] == "cosine"
    assert row["cost"] == pytest.approx((away ** (float(z) / 2)).sum(), rel=0.1)


def test_scaled_columns_come_back_in_the_users_units(tmp_path):
    points = np.round(clusters(N, dtype=np.float64) * 1024) / 1024  # the same as float32 or float64
    seconds = np.round(points[:, 0] * 10_000)
    runs = {}
    for name, offset in (("small", 0.0), ("epoch", 1.7e9)):
        source = write_parquet(tmp_path / name, {"t": seconds + offset, "x": points[:, 1], "y": points[:, 2]})
        assert summarize_files(source, tmp_path / f"out-{name}", *BASE, "--scale", "standard") == 0
        runs[name] = tmp_path / f"out-{name}"
    small, epoch = (read_table(str(folder), "coreset") for folder in runs.values())
    shift = np.array([1.7e9, 0, 0])
    assert small.column("id").equals(epoch.column("id"))
    moved = np.array(epoch.column("coordinates").to_pylist()) - shift
    assert np.allclose(moved, np.array(small.column("coordinates").to_pylist()), atol=1e-5)
    assert np.allclose(centers_in(runs["epoch"]) - shift, centers_in(runs["small"]), atol=1e-5)
    assert away_from(CENTERS, centers_in(runs["small"]) / [10_000, 1, 1]).max() < 0.5
    assert summary_row(runs["epoch"])["cost"] == pytest.approx(summary_row(runs["small"])["cost"], rel=1e-9)
    scale = json.loads((runs["epoch"] / "scale.json").read_text())
    assert scale["columns"] == ["t", "x", "y"]
    assert scale["divisor"] == pytest.approx([seconds.std(), points[:, 1].std(), points[:, 2].std()], rel=1e-4)


def test_a_translation_moves_the_centers_and_nothing_else(tmp_path):
    points = np.round(clusters(N, dtype=np.float64) * 1024) / 1024  # so that adding 1e7 is exact
    costs = []
    for offset in (0.0, 1e7):
        output = tmp_path / f"out-{offset:g}"
        source = write_parquet(tmp_path / f"in-{offset:g}", columns_of(points + offset))
        assert summarize_files(source, output, *BASE, "--drop_shards", "1,4") == 0
        row, centers = summary_row(output), centers_in(output) - offset
        costs.append(nearest(points, centers)[1].sum())
        assert row["cost"] == pytest.approx(costs[-1], rel=0.1)
        assert away_from(CENTERS, centers).max() < 0.3
        coreset = np.array(read_table(str(output), "coreset").column("coordinates").to_pylist())
        assert {tuple(p) for p in coreset - offset} <= {tuple(p) for p in points}
    # draws depend on the rows' bits, so the samples differ: both centers are within 1 % of the best
    assert costs[1] == pytest.approx(costs[0], rel=0.01)


def test_fewer_distinct_points_than_k_gives_fewer_centers_and_says_so(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", {"x": np.arange(600) % 3 * 1.0, "y": np.zeros(600)})
    assert summarize_files(source, tmp_path / "out", "--k", "5") == 0
    found = centers_in(tmp_path / "out")
    assert np.allclose(found[np.argsort(found[:, 0])], [[0, 0], [1, 0], [2, 0]], atol=1e-9)
    row = summary_row(tmp_path / "out")
    assert (row["k"], row["centers"], row["total_weight"]) == (5, 3, 600)
    assert row["cost"] == pytest.approx(0, abs=1e-9)
    out = capsys.readouterr().out
    assert "3 of k = 5" in out
    assert "fewer distinct points than k" in " ".join(out.split())


def test_labels_travel_with_the_points(tmp_path):
    points = clusters(N)
    columns = columns_of(points) | {
        "user": [f"u{i}" for i in range(N)],
        "kind": ["a" if i % 2 else "b" for i in range(N)],
        "when": pa.array(np.arange(N), pa.timestamp("s")),
        "note": [None if i % 3 else f"note {i}" for i in range(N)],
    }
    source = write_parquet(tmp_path / "in", columns)
    labels = ("--id_column", "user", "--group_column", "kind", "--keep_columns", "when,note")
    assert summarize_files(source, tmp_path / "out", *BASE, *POINTS, *labels, "--format", "parquet") == 0
    rows = rows_in(tmp_path / "out", "coreset")
    whens = columns["when"].to_pylist()
    for row in rows:
        i = int(row["id"][1:])
        assert row["coordinates"] == points[i].astype(np.float64).tolist()
        assert (row["group_label"], row["when"], row["note"]) == (columns["kind"][i], whens[i], columns["note"][i])
    nearest_rows = {row["representative_id"] for row in rows_in(tmp_path / "out", "centers")}
    assert nearest_rows <= {row["id"] for row in rows}
    assert len(nearest_rows) == 4


def test_centers_name_a_real_row(source, tmp_path):
    assert summarize_files(source, tmp_path, *BASE, *POINTS) == 0
    points = clusters(N)
    for center in rows_in(tmp_path, "centers"):
        name, row = center["representative_id"].split("#")
        file = int(name.removeprefix("part-").removesuffix(".parquet"))
        row_at = points[file * 1000 + int(row)]
        assert np.linalg.norm(row_at - np.array(center["coordinates"])) < 2


def test_weights_are_honoured_everywhere(tmp_path):
    points, rng = clusters(N), generator("outliers")
    weights = np.where(np.arange(N) % 3 == 0, 2.0, 1.0)
    far = 1e4 * rng.standard_normal((30, 3)).astype(np.float32)
    table = columns_of(np.vstack([points, far])) | {"w": np.concatenate([weights, np.zeros(30)])}
    source = write_parquet(tmp_path / "in", table)
    assert summarize_files(source, tmp_path / "out", *BASE, "--weight_column", "w") == 0
    row = summary_row(tmp_path / "out")
    assert row["total_weight"] == pytest.approx(weights.sum(), rel=1e-12)
    assert row["cost"] == pytest.approx(weights @ nearest(points, centers_in(tmp_path / "out"))[1], rel=0.1)
    assert sum(c["weight"] for c in rows_in(tmp_path / "out", "centers")) == pytest.approx(weights.sum(), rel=1e-9)
    assert np.abs(centers_in(tmp_path / "out")).max() < 40


@pytest.mark.parametrize("form", tables.TABLE_FORMATS)
def test_output_formats_hold_the_same(source, tmp_path, form):
    assert summarize_files(source, tmp_path / "a", *BASE, *POINTS) == 0
    assert summarize_files(source, tmp_path / "b", *BASE, *POINTS, "--format", form) == 0
    for name in table_schemas.TABLES:
        assert read_table(str(tmp_path / "b"), name).equals(read_table(str(tmp_path / "a"), name))


def test_columns_of_very_different_spread_are_warned_about(tmp_path, capsys):
    points = clusters(900, dtype=np.float64) * [1, 1, 1e4]
    source = write_parquet(tmp_path / "in", columns_of(points))
    assert summarize_files(source, tmp_path / "out", "--k", "3") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "warning: column 'x2' spreads" in out
    assert "--scale standard" in out
    assert summarize_files(source, tmp_path / "scaled", "--k", "3", "--scale", "standard") == 0
    assert "warning" not in capsys.readouterr().out


def test_a_column_like_ids_that_nobody_named_is_warned_about(tmp_path, capsys):
    columns = {"[order]": np.arange(900) * 7, "halves": np.arange(900) / 2, **columns_of(clusters(900))}
    columns["count"] = np.arange(900) % 300
    source = write_parquet(tmp_path / "in", columns)
    said = "warning: column '[order]' has another whole number in each row, as ids have"
    for options in ((), ("--scale", "standard")):
        assert summarize_files(source, tmp_path / "out", "--k", "3", "--overwrite", *options) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert out.count("as ids have") == 1
        assert said in out
    named = (("--columns", "[order],x0"), ("--id-column", "[order]"))
    for options in named:
        assert summarize_files(source, tmp_path / "out", "--k", "3", "--overwrite", *options) == 0
        assert "as ids have" not in capsys.readouterr().out


def test_columns_that_are_all_of_whole_numbers_are_data(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", {"a": np.arange(900), "b": np.arange(900)[::-1].copy()})
    assert summarize_files(source, tmp_path / "out", "--k", "3") == 0
    assert "warning" not in capsys.readouterr().out


def test_ids_with_brackets_and_a_relative_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    columns = columns_of(clusters(600)) | {"name": [f"[/b]{i}" for i in range(600)]}
    source = write_parquet(tmp_path / "in", columns)
    assert summarize_files(source, "out", "--k", "2", "--id_column", "name") == 0
    out = capsys.readouterr().out
    assert out.count("[/b]") == 2
    assert "Tables in out: summaries" in out
    assert (tmp_path / "out" / "coreset" / "global-r1.parquet").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "avro", "npy"])
def test_other_file_formats(tmp_path, kind):
    points = clusters(900).astype(np.float64)
    table = pa.table(columns_of(points))
    for i in range(2):
        part = table.slice(i * 450, 450)
        path = tmp_path / f"points-{i}.{kind}"
        if kind == "csv":
            pa.csv.write_csv(part, path)
        elif kind == "npy":
            np.save(path, points[i * 450 : (i + 1) * 450])
        else:
            path.write_bytes(tables.encode(part, kind))
    assert summarize_files(f"{tmp_path}/points-*.{kind}", tmp_path / "out", *BASE, "--drop_shards", "1,4") == 0
    row = summary_row(tmp_path / "out")
    assert (row["points"], row["coverage"]) == (900, 1.0)
    assert away_from(CENTERS, centers_in(tmp_path / "out")).max() < 0.5
    for found in rows_in(tmp_path / "out", "coreset")[:50]:
        name, number = found["id"].split("#")
        at = int(name.removeprefix("points-")[0]) * 450 + int(number)
        assert found["coordinates"] == pytest.approx(points[at], rel=1e-6)


def test_overwriting_makes_a_decision_of_its_own(source, tmp_path, capsys):
    assert summarize_files(source, tmp_path, *BASE, *POINTS) == 0
    first = coreset_bytes(tmp_path)
    assert summarize_files(source, tmp_path, *BASE, *POINTS, "--seed", "1") == 2
    assert "output: must not hold another run's result" in capsys.readouterr().err
    assert summarize_files(source, tmp_path, *BASE, *POINTS, "--seed", "1", "--overwrite") == 0
    assert coreset_bytes(tmp_path) != first
    assert summary_row(tmp_path)["seed"] == 1
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    shown = [f"{name}/global-r1.parquet" for name in sorted(table_schemas.TABLES)]
    assert files == [".claims/global-r1.json", ".claims/run-000002.end", *shown[:3], "schema.json", *shown[3:]]


def test_what_a_stopped_run_has_claimed_but_not_shown_is_replaced_where_asked_for(source, tmp_path):
    assert summarize_files(source, tmp_path / "a", *BASE, *POINTS) == 0
    shutil.copytree(tmp_path / "a" / ".claims", tmp_path / "b" / ".claims")
    (tmp_path / "b" / ".staging" / "global-r1" / "attempt").mkdir(parents=True)
    (tmp_path / "b" / ".staging" / "global-r1" / "attempt" / "centers.parquet").write_bytes(b"half of")
    assert summarize_files(source, tmp_path / "b", *BASE, *POINTS, "--seed", "1") == 2
    assert summarize_files(source, tmp_path / "b", *BASE, *POINTS, "--seed", "1", "--overwrite") == 0
    assert summary_row(tmp_path / "b")["seed"] == 1


def test_where_every_row_is_kept_the_cost_is_known(tmp_path, capsys):
    points = clusters(90)
    source = write_parquet(tmp_path / "in", columns_of(points))
    assert summarize_files(source, tmp_path / "out", "--k", "3") == 0
    row = summary_row(tmp_path / "out")
    assert row["cost_basis"] == "exact"
    assert row["cost_low"] == row["cost"] == row["cost_high"]
    assert row["cost"] == pytest.approx(nearest(points, centers_in(tmp_path / "out"))[1].sum(), rel=1e-6)
    assert "exact: the coreset holds every row" in " ".join(capsys.readouterr().out.split())
