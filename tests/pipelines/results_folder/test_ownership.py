"""One run owns an output folder; whoever stops when, the result before or the new one is there, whole."""
import contextlib
import json
import multiprocessing
import os
import pathlib
import shutil

import pytest
from apache_beam.io.filesystems import FileSystems
from jobs import clusters, parts_of, without_beam

from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.results_folder import liveness, ownership
from beam_coresets.pipelines.results_folder.ownership import Run, begin, holding, owning, reading
from beam_coresets.pipelines.results_folder.scale_file import copy_scale, read_scale, write_scale
from beam_coresets.pipelines.results_folder.stored import require_apart
from beam_coresets.pipelines.running.launch import JobError
from beam_coresets.points.scale import Scale
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stored_tables import read_table

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
PLAN = Plan(k=3, shards=3, replication=2, coreset_size=20)
SUMMARIES = [without_beam(parts_of(clusters(300, seed)), PLAN) for seed in (0, 1)]
RECORD = r"\.claims/run-\d{6}\.end"


def write(folder, seed, scale=0.0, form="avro", letters=False):
    """A result: its tables, and a scale that tells whose it is."""
    if scale:
        write_scale(Scale((0.0,), (scale,)), folder, ("x",))
    if letters:
        atomic_files.write(f"{folder}/dead_letters/in.csv-01234567.avro", b"letters")
    Claims(folder, form).publish(SUMMARIES[seed])


def run(output, seed=0, overwrite=False, **more):
    with owning(str(output), overwrite, "summarize") as place:
        write(place.folder, seed, **more)


def files_under(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def tables_of(form="avro"):
    return [f"{name}/global-r1.{form}" for name in ("centers", "columns", "coreset", "summaries")]


def check_whole(output, seed, number, *more):
    """The result of one run is there, and nothing else but its record."""
    for name in ("summaries", "centers", "coreset", "columns"):
        assert read_table(str(output), name).equals(SUMMARIES[seed].table(name))
    record = [".claims/global-r1.json", f".claims/run-{number:06d}.end"]
    assert files_under(output) == sorted([*record, *tables_of(), *more])


class StopError(BaseException):
    """As if the process had been killed here: nothing that it does after this has any effect."""


def killed_at(monkeypatch, step, place):
    """A process whose step-th change of the file system is its last one; the others take it for dead."""
    count = 0

    def wrap(do):
        def act(*args, **more):
            nonlocal count
            count += 1
            if count > step or (count == step and place == "before"):
                raise StopError
            done = do(*args, **more)
            if count == step:
                raise StopError
            return done

        return act

    for name in ("rename", "link", "rmdir", "makedirs"):
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    monkeypatch.setattr(pathlib.Path, "unlink", wrap(pathlib.Path.unlink))
    monkeypatch.setattr(shutil, "rmtree", wrap(shutil.rmtree))
    monkeypatch.setattr(liveness, "this_process", dead_process(liveness.this_process()))


def dead_process(me):
    return lambda: me | {"born": "before", "pid": 4_194_304}


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_run_that_replaces_a_result_may_be_killed_anywhere(tmp_path, monkeypatch, place):
    monkeypatch.setattr(atomic_files, "_ABANDONED", -1.0)
    out, step, seen = tmp_path / "out", 0, set()
    run(out, 0, scale=1.0)
    standing = 0
    while True:
        step += 1
        with monkeypatch.context() as patched:
            killed_at(patched, step, place)
            try:
                run(out, 1 - standing, overwrite=True, scale=float(standing))
                stopped = False
            except StopError:
                stopped = True
        with reading([str(out)]):
            for seed in (0, 1):
                if read_table(str(out), "centers").equals(SUMMARIES[seed].centers):
                    found = seed
            assert read_table(str(out), "coreset").equals(SUMMARIES[found].coreset)
            scale = read_scale(str(out))
        assert (scale.divisor[0] if scale else 0.0) == 1.0 - found, "the scale is of the run that the tables are of"
        seen.add(found == standing)
        standing = found
        if not stopped:
            break
    assert seen == {True, False}, "some were killed before their end, and some in it"
    run(out, 0, overwrite=True)
    number = max(ownership.state_of(str(out)).ended)
    check_whole(out, 0, number)


def test_a_first_run_that_is_killed_leaves_the_folder_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_ABANDONED", -1.0)
    with monkeypatch.context() as patched:
        killed_at(patched, 6, "after")
        with pytest.raises(StopError):
            run(tmp_path / "out")
    run(tmp_path / "out", 1)
    check_whole(tmp_path / "out", 1, 2)


@pytest.mark.parametrize("overwrite", [False, True])
def test_another_run_is_refused_and_told_who_owns_the_folder(tmp_path, overwrite):
    out = tmp_path / "out"
    if overwrite:
        run(out, 1)
    with owning(str(out), overwrite, "summarize") as place:
        with pytest.raises(JobError) as refused, owning(str(out), overwrite, "solve"):
            raise AssertionError
        assert str(refused.value).startswith(
            f"output: must be no other run's, got {str(out)!r}, which summarize (process {os.getpid()} on "
        )
        with pytest.raises(JobError, match="must be no other run's"), holding(str(out), "stream"):
            raise AssertionError
        if overwrite:
            with reading([str(out)]):
                assert read_table(str(out), "centers").equals(SUMMARIES[1].centers), "until then the old one stands"
        write(place.folder, 0)
    check_whole(out, 0, 1 + overwrite)


def test_a_run_that_only_seemed_dead_drops_its_result(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(liveness, "this_process", dead_process(liveness.this_process()))
        slow = begin(str(out), False, "summarize")
    write(slow.folder, 0)
    run(out, 1)
    write(slow.folder, 0)
    with pytest.raises(JobError, match=r"output: must be this run's to its end, got .* taken by .* is dropped"):
        slow.commit()
    slow.give_up()
    check_whole(out, 1, 2)


@pytest.mark.parametrize("before", [False, True])
def test_a_run_that_fails_leaves_what_was_before(tmp_path, before):
    out = tmp_path / "out"
    if before:
        run(out, 0, scale=3.0)
    content = {name: (out / name).read_bytes() for name in files_under(out)} if before else {}
    for error in (ValueError("k: must"), KeyboardInterrupt(), JobError("no")):
        with contextlib.suppress(type(error)), owning(str(out), True, "solve") as place:
            write(place.folder, 1)
            raise error
        assert out.exists() == before
        assert {name: (out / name).read_bytes() for name in files_under(out)} == content


def test_letters_of_a_run_that_fails_stay_until_the_next(tmp_path):
    out = tmp_path / "out"
    with contextlib.suppress(JobError), owning(str(out), False, "summarize") as place:
        write(place.folder, 0, scale=1.0, letters=True)
        raise JobError("max_bad_rows: at most 0")
    assert files_under(out) == [".claims/run-000001.end", "dead_letters/in.csv-01234567.avro"]
    run(out, 1)
    check_whole(out, 1, 2)


def test_only_what_runs_have_written_is_ever_removed(tmp_path):
    out = tmp_path / "out"
    for name in ("coreset/notes.txt", "assigned/mine.txt", "dead_letters/x.csv", "k=02/mine", ".claims/mine"):
        atomic_files.write(str(out / name), b"mine")
    mine = files_under(out)
    for i, seed in enumerate((0, 1)):
        run(out, seed, overwrite=bool(i), letters=not i)
    check_whole(out, 1, 2, *mine)
    assert {(out / name).read_bytes() for name in mine} == {b"mine"}


def test_a_file_of_somebody_elses_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    atomic_files.write(str(out / "scale.json"), b"mine")
    with pytest.raises(ValueError, match=r"output: must have no other files where the result goes, got '.*scale.json'"):
        run(out, 0, overwrite=True, scale=2.0)
    assert files_under(out) == ["scale.json"]
    run(out, 0)
    said = "scale.json: must be of the run that wrote the tables, got .*which is not"
    with pytest.raises(ValueError, match=said):
        read_scale(str(out))
    with pytest.raises(ValueError, match=said):
        copy_scale(str(out), str(tmp_path / "to"))
    (out / "coreset" / "other.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"output: must hold no other files among its tables, got '.*other.parquet'"):
        run(out, 1, overwrite=True)


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
@pytest.mark.parametrize("name", ["batch-avro", "batch-jsonl", "scaled", "weak", "assigned", "stream"])
def test_results_of_older_versions_are_replaced_whole(tmp_path, version, name):
    out = shutil.copytree(GOLDEN / version / name, tmp_path / "out")
    number = 1 + len(list((out / ".claims").glob("run-*.end")))  # the first versions left no record
    (out / "mine.txt").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"output: must not hold another run's result, .*\(--overwrite replaces"):
        run(out, 1)
    run(out, 1, overwrite=True)
    check_whole(out, 1, number, "mine.txt")


def test_a_range_of_k_is_one_result(tmp_path):
    out = tmp_path / "out"
    with owning(str(out), False, "solve") as place:
        for k in ("k=02", "k=03"):
            write(f"{place.folder}/{k}", 0, scale=2.0)
    assert read_scale(str(out / "k=02")).divisor == (2.0,)
    (out / "k=03" / "scale.json").write_text('{"origin": [0], "divisor": [5]}')
    with pytest.raises(ValueError, match="changed or damaged"):
        read_scale(str(out / "k=03"))
    with pytest.raises(JobError, match="must stay as it is while it is read"), reading([str(out / "k=02")]):
        run(out, 1, overwrite=True)
    check_whole(out, 1, 2)
    assert not (out / "k=02").exists()


def test_who_is_alive(tmp_path, monkeypatch):
    me, beat = liveness.this_process() | {"at": 1000.0, "detached": False}, str(tmp_path / "beat")
    assert liveness.is_alive(me, beat)
    assert not liveness.is_alive(me | {"born": "another process has its number by now"}, beat)
    assert not liveness.is_alive(me | {"pid": 4_194_304}, beat)
    elsewhere = me | {"machine": "another one"}
    assert not liveness.is_alive(elsewhere, beat), "nothing heard since 1970"
    monkeypatch.setattr(liveness.time, "time", lambda: 1000.0 + liveness.LEASE_SECONDS - 1)
    assert liveness.is_alive(elsewhere, beat)
    monkeypatch.undo()
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.01)
    with liveness.signs_of_life(beat):
        while not os.path.exists(beat):
            pass
        assert liveness.is_alive(elsewhere, beat)
    assert not os.path.exists(beat)
    assert liveness.is_alive(elsewhere | {"detached": True}, beat)


def test_a_run_that_nobody_waits_for_ends_by_itself(tmp_path):
    out = tmp_path / "out"
    with owning(str(out), False, "summarize", detached=True) as left:
        pass
    write(left.folder, 0)
    with pytest.raises(JobError, match=r"summarize \(left to a cluster, since .*\) writes to \(--overwrite takes it\)"):
        run(out, 1)
    for _ in range(2):  # a runner may do so again
        left.commit()
    check_whole(out, 0, 1)
    with owning(str(out), True, "summarize", detached=True) as left:
        pass
    run(out, 1, overwrite=True)
    write(left.folder, 0)
    with pytest.raises(JobError, match="must be this run's to its end"):
        left.commit()
    left.give_up()
    check_whole(out, 1, 3)


def test_where_nothing_can_be_written_it_is_said_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"mine")
    for output, said in {
        "": "output: must be the name of a folder, got ''", str(tmp_path / "file"): "output: must be a folder, got '",
        str(tmp_path / "file" / "out"): "output: must be a folder that can be written, got '",
        "/proc/nope/out": "output: must be a folder that can be written, got '/proc/nope/out' (",
    }.items():  # fmt: skip
        with pytest.raises(ValueError) as refused, owning(output, True, "solve"):  # noqa: PT011
            raise AssertionError
        assert str(refused.value).startswith(said)
    assert (tmp_path / "file").read_bytes() == b"mine"

    def full(path, data):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(atomic_files, "write", full)
    with pytest.raises(ValueError, match=r"output: must be a folder that can be written, got .*No space left"):
        begin(str(tmp_path / "out"), False, "solve")


def test_a_disk_that_fills_up_in_the_end_is_said_and_the_next_run_goes_on(tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(out, 0)
    with monkeypatch.context() as patched:
        patched.setattr(liveness, "this_process", dead_process(liveness.this_process()))

        def full(source, target):
            raise OSError(28, "No space left on device")

        patched.setattr(atomic_files, "move", full)
        said = pytest.raises(JobError, match=r"output: must be writable to the end, got .*No space left")
        with said, owning(str(out), True, "solve") as place:
            shutil.copytree(out / "summaries", f"{place.folder}/summaries")
    with reading([str(out)]):
        assert files_under(out) == [".claims/run-000002.end", "summaries/global-r1.avro"]


@pytest.mark.parametrize(("output", "more", "said"), [
    ("out", {"folders": ["out"]}, "must not be what is read, got 'out'"),
    ("out/", {"folders": ["./out"]}, "must not be what is read, got 'out/'"),
    ("out", {"folders": ["out/k=02"]}, "must not hold what is read, got 'out' with 'out/k=02'"),
    ("in/coreset/x", {"folders": ["in"]}, "must not be in what is read, got 'in/coreset/x' in 'in'"),
    ("e", {"patterns": ["e/coreset/x.csv"]}, "must not hold what is read, got 'e' with 'e/coreset/x.csv'"),
    (".", {"patterns": ["x.csv"]}, "must not hold what is read, got '.' with 'x.csv'"),
    ("data/out", {"patterns": ["data/**"]}, "must not be in what is read, got 'data/out' in 'data/**'"),
    ("data/out", {"patterns": ["data"]}, "must not be in what is read, got 'data/out' in 'data'"),
    ("data", {"patterns": ["*/*/*.avro"]}, "must not be in what is read, got 'data' in '*/*/*.avro'"),
    ("gs://b/out", {"patterns": ["gs://b/out/in/*.csv"]}, "must not hold what is read, got 'gs://b/out' with "),
    ("in/solved", {"folders": ["in"]}, None), ("data/out", {"patterns": ["data/*.avro"]}, None),
    ("out2", {"patterns": ["out/x.csv"], "folders": ["out"]}, None), ("o", {"patterns": ["*.avro", "x/**"]}, None),
])  # fmt: skip
def test_outputs_and_inputs_are_apart(tmp_path, monkeypatch, output, more, said):
    monkeypatch.chdir(tmp_path)
    if said is None:
        return require_apart(output, **more)
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        require_apart(output, **more)
    assert str(refused.value).startswith(f"output: {said}")


def _race(folder, seed, barrier, results, rounds):
    for round_ in range(rounds):
        barrier.wait()
        try:
            run(f"{folder}/{round_ // 2}", seed, overwrite=True, scale=seed + 1.0)
            results.put((round_, seed, True))
        except JobError as error:
            results.put((round_, seed, str(error)))


@pytest.mark.slow
def test_of_processes_that_start_at_once_some_one_result_stands(tmp_path):
    rounds, context = 20, multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    racers = [context.Process(target=_race, args=(str(tmp_path), s, barrier, results, rounds)) for s in (0, 1)]
    [racer.start() for racer in racers]
    found = [results.get(timeout=300) for _ in range(2 * rounds)]
    [racer.join() for racer in racers]
    won = {(round_, seed) for round_, seed, told in found if told is True}
    assert all(told is True or "output: must be" in told for _, _, told in found)
    for round_ in range(rounds):
        assert {(round_, 0), (round_, 1)} & won
    for i in range(rounds // 2):
        out = tmp_path / str(i)
        (scale,) = read_scale(str(out)).divisor
        assert (2 * i, scale - 1) in won or (2 * i + 1, scale - 1) in won
        check_whole(out, int(scale) - 1, max(ownership.state_of(str(out)).ended), "scale.json")


def test_records_of_a_later_version_or_damaged_are_refused(tmp_path):
    run(tmp_path / "out")
    path = tmp_path / "out" / ".claims" / "run-000001.end"
    for content, said in (('{"version": 2}', "records of version 1, got 2"), ("{", "whole records of runs, got")):
        path.write_text(content)
        with pytest.raises(ValueError, match=said):
            run(tmp_path / "out", 1, overwrite=True)
    assert json.loads(json.dumps(Run("a", 1, "b", "c").folder)) == FileSystems.join("a", ".staging", "run-b")
