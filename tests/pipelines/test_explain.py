"""--explain: what would be done, and nothing done."""
from jobs import clusters, columns_of, write_parquet

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running import launch


def test_it_shows_scheme_sizes_memory_and_graph_and_runs_nothing(tmp_path, capsys, monkeypatch):
    def refuse(*args):
        raise AssertionError("--explain must not run the pipeline")

    monkeypatch.setattr(launch, "run", refuse)
    source = write_parquet(tmp_path / "in", columns_of(clusters(900)))
    options = ("--k", "5", "--shards", "10", "--replication", "3", "--scheme", "cyclic")
    assert main(["summarize", "--input", source, *options, "--output", f"{tmp_path}/out", "--explain"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("3 files", "parquet", "3 coordinates", "cyclic, 10 shards, replication 3, 1024 buckets",
                 "nothing for any 2 stragglers", "200 points a shard, up to 2,000 in all", "memory", "k = 5",
                 "ReadBlocks", "SampleBlocks", "ShardCoreset", "Coordinate", "SolveCenters"):  # fmt: skip
        assert text in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_it_needs_no_output_and_shows_the_second_pass_of_scaling(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", columns_of(clusters(90)))
    assert main(["summarize", "--input", source, "--k", "2", "--scale", "standard", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "Moments" in out
    assert "ScaleBlocks" in out


def test_a_scheme_that_may_lose_rows_says_so(tmp_path, capsys):
    source = write_parquet(tmp_path / "in", columns_of(clusters(90)))
    options = ("--k", "2", "--scheme", "bernoulli", "--replication", "2")
    assert main(["summarize", "--input", source, *options, "--explain"]) == 0
    assert "some rows even if all answer" in capsys.readouterr().out
    assert main(["summarize", "--input", source, "--k", "0", "--explain"]) == 2
    assert capsys.readouterr().err == "error: k: must be at least 1, got 0\n"
