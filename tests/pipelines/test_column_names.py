"""Results know what their columns are called: later commands go by name, in whichever order the columns are."""
import json

import numpy as np
import pytest
from jobs import LOCAL, clusters, rows_in

from beam_coresets.pipelines.console.stream_options import StreamOptions, init_of
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.results_folder.scale_file import scale_of

POINTS = clusters(150).astype(np.float64).round(3)


def write_csv(path, names):
    columns = [("x", "y", "z").index(name) for name in names]
    np.savetxt(path, POINTS[:, columns], delimiter=",", header=",".join(names), comments="")
    return str(path)


def run(*words):
    return main([*map(str, words), *(LOCAL if words[0] in ("summarize", "assign", "verify") else ())])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data in three orders and as an array, what was made of each, and of one with a scale."""
    folder = tmp_path_factory.mktemp("names")
    for order in ("xyz", "zxy"):
        data = write_csv(folder / f"{order}.csv", order)
        assert run("summarize", "--input", data, "--k", 4, "--output", folder / order) == 0
    scaled = ("--k", 4, "--scale", "standard", "--output", folder / "scaled")
    assert run("summarize", "--input", folder / "zxy.csv", *scaled) == 0
    np.save(folder / "rows.npy", POINTS)
    assert run("summarize", "--input", folder / "rows.npy", "--k", 4, "--output", folder / "npy") == 0
    write_csv(folder / "yz.csv", "yz")
    return folder


def true_cost(centers):
    return ((POINTS[:, None] - centers) ** 2).sum(axis=2).min(axis=1).sum()


def test_tables_have_the_names_where_there_are_some(folder):
    found = {name: rows_in(folder / name, "summaries")[0]["columns"] for name in ("xyz", "zxy", "npy")}
    assert found == {"xyz": ["x", "y", "z"], "zxy": ["z", "x", "y"], "npy": None}


@pytest.mark.parametrize("made", ["xyz", "npy", "scaled"])
def test_rows_are_assigned_by_name(folder, tmp_path, made):
    order = rows_in(folder / made, "summaries")[0]["columns"] or ["x", "y", "z"]
    centers = np.array([row["coordinates"] for row in rows_in(folder / made, "centers")])
    centers = centers[:, [order.index(name) for name in "xyz"]]
    away = np.sqrt(((POINTS[:, None] - centers) ** 2).sum(axis=2))
    inputs = ["xyz.csv", "rows.npy"] if made == "npy" else ["xyz.csv", "zxy.csv"]
    for data in inputs:
        assert run("assign", "--input", folder / data, "--centers", folder / made, "--output", tmp_path / data) == 0
        rows = sorted(rows_in(tmp_path / data, "assigned"), key=lambda row: int(row["id"].rpartition("#")[2]))
        if made == "scaled":
            assert len({(int(away[i].argmin()), row["cluster"]) for i, row in enumerate(rows)}) == 4
        else:
            assert [row["cluster"] for row in rows] == away.argmin(axis=1).tolist()
            assert [row["distance"] for row in rows] == pytest.approx(away.min(axis=1).tolist(), rel=1e-4)


def test_data_in_another_order_are_verified(folder, capsys):
    centers = np.array([row["coordinates"] for row in rows_in(folder / "xyz", "centers")])
    assert run("verify", "--input", folder / "zxy.csv", "--columns", "z,y,x", "--coreset", folder / "xyz") == 0
    said = capsys.readouterr().out
    assert float(said.partition("emitted centers: cost ")[2].split()[0]) == pytest.approx(true_cost(centers), rel=1e-4)


def test_missing_columns_are_refused_by_name(folder, tmp_path, capsys):
    for words in (("assign", "--centers", folder / "xyz", "--output", tmp_path / "rows"),
                  ("verify", "--coreset", folder / "xyz")):  # fmt: skip
        assert run(*words, "--input", folder / "yz.csv") == 2
        whose = words[1].removeprefix("--")
        assert capsys.readouterr().err == f"error: columns: must have those of the {whose} (x, y, z), got (y, z)\n"
        assert run(*words, "--input", folder / "xyz.csv", "--columns", "x,z") == 2
        assert "(x, y, z), got (x, z)" in capsys.readouterr().err


@pytest.mark.parametrize("pair", [("xyz", "zxy"), ("zxy", "xyz")], ids="-".join)
def test_windows_are_united_by_name(folder, tmp_path, pair):
    assert run("rollup", "--input", *(folder / name for name in pair), "--output", tmp_path / "out") == 0
    (row,) = rows_in(tmp_path / "out", "summaries")
    centers = np.array([each["coordinates"] for each in rows_in(tmp_path / "out", "centers")])
    centers = centers[:, [row["columns"].index(name) for name in "xyz"]]
    assert row["cost"] == pytest.approx(2 * true_cost(centers), rel=0.1)
    assert row["total_weight"] == 300


def test_a_stream_begins_with_centers_and_a_scale_by_name(folder):
    known = StreamOptions(init_centers=str(folder / "zxy"))
    centers, _ = init_of(known, None, ("x", "y", "z"))
    assert true_cost(centers) == pytest.approx(rows_in(folder / "zxy", "summaries")[0]["cost"], rel=1e-4)
    for others in (("x", "y", "w"), ("x", "y")):
        with pytest.raises(ValueError, match=rf"columns: .* of the stream \({', '.join(others)}\), got \(z, x, y\)"):
            init_of(known, None, others)
    scale = scale_of("none", str(folder / "scaled" / "scale.json"), ("x", "y", "z"))
    assert scale.origin == pytest.approx(POINTS.mean(axis=0).tolist(), rel=1e-4)
    held = json.loads((folder / "scaled" / "scale.json").read_text())
    assert held["columns"] == ["z", "x", "y"]
