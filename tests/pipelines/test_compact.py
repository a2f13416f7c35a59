"""`beam-coresets compact OUT`, and the commands that read what it has made."""
import pytest
from jobs import clusters, parts_of, without_beam

from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.results_folder.stream_folder import require_same_stream
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stored_tables import read_table

PLAN = Plan(k=3, shards=3, replication=2, coreset_size=20)
DAY = 1795219200.0 - 86400 * 400
TABLES = ("summaries", "coreset")


@pytest.fixture
def folder(tmp_path):
    claims = Claims(str(tmp_path / "out"))
    require_same_stream(claims, "60s", None)
    for i in range(4):
        claims.publish(without_beam(parts_of(clusters(100, i)), PLAN, window=Window(DAY + 60 * i, DAY + 60 * i + 60)))
    return tmp_path / "out"


def test_days_are_compacted_and_other_commands_go_on(folder, capsys):
    answers = []
    for number in range(2):
        other = str(folder.parent / f"rollup-{number}")
        assert main(["rollup", "--input", str(folder), "--output", other]) == 0
        answers.append([read_table(other, table) for table in TABLES])
        capsys.readouterr()
        assert main(["compact", str(folder)]) == 0
        said = capsys.readouterr().out
        assert said.endswith("4 windows, 16 files are 4\n" if number == 0 else "nothing to compact\n")
    assert answers[0][1].equals(answers[1][1])
    assert answers[0][0]["cost"] == answers[1][0]["cost"]
    require_same_stream(Claims(str(folder)), "60s", None)
    with pytest.raises(ValueError, match="window: must be 60s as in the windows"):
        require_same_stream(Claims(str(folder)), "5s", None)


def test_a_batch_job_may_take_the_place(folder, capsys):
    assert main(["compact", str(folder)]) == 0
    source = str(folder.parent / "copy")
    assert main(["rollup", "--input", str(folder), "--output", source]) == 0
    assert main(["rollup", "--input", source, "--output", str(folder)]) == 2
    assert "must not hold another run's result" in capsys.readouterr().err
    assert main(["rollup", "--input", source, "--output", str(folder), "--overwrite"]) == 0
    assert len(read_table(str(folder), "summaries")) == 1
    assert not [path for path in (folder / ".claims").iterdir() if path.suffix in (".compacted", ".windows")]


def test_what_it_refuses(folder, tmp_path, capsys):
    assert main(["compact"]) == 2
    assert capsys.readouterr().err.endswith("error: output: must be given (--output), got nothing\n")
    assert main(["compact", str(tmp_path)]) == 2
    assert "output: must be a stream's folder, got" in capsys.readouterr().err
    with atomic_files.locked(str(folder / ".compacted"), alone=True):
        assert main(["compact", str(folder)]) == 1
    assert "must be compacted by one at a time" in capsys.readouterr().err
