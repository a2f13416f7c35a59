"""Whatever the files in `.claims` hold: commands and the library name the one that is damaged, and go on without it."""
import gzip
import json
import pathlib
import shutil
import warnings

import pytest
from windows_written import write_minutes

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.views.newest import Asked
from beam_coresets.pipelines.views.server import LiveFolder
from beam_coresets.summaries import open_summaries

CLAIM = {"version": 1, "window": "x", "form": "parquet", "staging": "a"}
OTHER = {
    "a list": b"[]", "null": b"null", "a text": b'"x"', "a number": b"3", "nothing": b"", "bytes": b"\xff\xfe\0[",
    "the beginning of a claim": b'{"version": 1, "wind', "an empty object": b"{}", "depth": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000, "bytes in a text": b'{"window": "\xff"}',
    "a list of files": json.dumps(CLAIM | {"files": []}).encode(),
    "files that are lists": json.dumps(CLAIM | {"files": {"summaries": []}}).encode(),
    "a path that is none": json.dumps(CLAIM | {"files": {"summaries": {"path": 3}}}).encode(),
    "no summaries": json.dumps(CLAIM | {"files": {}}).encode(),
    "lists of parts": b'{"version": 1, "parts": [[]], "former": {}, "staging": 1}',
}  # fmt: skip
NOTE = {"version": 1, "schema_version": 2}
GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "0.3"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is waited for, nor remembered."""
    monkeypatch.setattr("beam_coresets.summaries.folders._PATIENCE", 1)
    monkeypatch.setattr("beam_coresets.summaries.claim_records._indexes", {})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    where = tmp_path_factory.mktemp("stored")
    write_minutes(where / "minutes", range(2))
    write_minutes(where / "compacted", range(3))
    (where / "compacted" / ".claims" / "stream").write_text(json.dumps(NOTE))
    assert main(["compact", str(where / "compacted")]) == 0
    shutil.copytree(GOLDEN / "scaled", where / "scaled")
    return where


@pytest.fixture
def damage(stored, tmp_path):
    """Writes something into the first file in .claims of such a name, in a copy of a folder; returns both."""

    def damaged(name, pattern, content):
        folder = shutil.copytree(stored / name, tmp_path / "out")
        path = min((folder / ".claims").glob(pattern))
        path.write_bytes(content)
        return folder, path

    return damaged


def live(folder):
    """What a live page says: its problem, or the notes on the page."""
    found = LiveFolder(str(folder), 100, Asked())
    found.look()
    if found.problem:
        return [found.problem]
    json.dumps(found.newest(), default=str)
    assert found.metrics()
    return json.loads(gzip.decompress(found.contents()))["notes"]


@pytest.mark.parametrize("content", OTHER.values(), ids=OTHER)
def test_a_claim_that_is_none_is_left_out_and_named(damage, capsys, content):
    folder, path = damage("minutes", "*.json", content)
    named = f"output: must hold whole claims, got {str(path)!r} "
    assert main(["report", str(folder)]) == 0
    capsys.readouterr()
    assert main(["show", str(folder)]) == 0
    shown = capsys.readouterr()
    assert f"left out: {named}" in shown.err
    assert shown.out.count("2026-11-21 00:0") == 1, "one window is left"
    (note,) = live(folder)
    assert note.startswith(f"Left out: {named}")
    with pytest.warns(UserWarning, match="skipped a window: output: must hold whole claims, got "):
        assert len(open_summaries(str(folder))) == 1


@pytest.mark.parametrize("content", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize(("name", "pattern"), [
    ("scaled", "*.json"), ("scaled", "run-*.end"), ("compacted", "*.compacted"), ("compacted", "*.windows"),
])  # fmt: skip
def test_what_can_not_be_read_at_all_is_named(damage, capsys, name, pattern, content):
    folder, path = damage(name, pattern, content)
    for command in ("report", "show"):
        assert main([command, str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert path.name in line, line
    try:
        (said,) = live(folder)
    except ValueError as error:
        said = str(error)
    assert path.name in said
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            said = f"{len(open_summaries(str(folder)).checked())} windows"
        except ValueError as error:
            said = str(error)
    assert path.name in said or any(path.name in str(each.message) for each in warned), said


def test_a_claim_that_was_damaged_is_read_once_it_is_whole(damage, stored):
    folder, path = damage("minutes", "*.json", b"[]")
    found = LiveFolder(str(folder), 100, Asked())
    for content, windows, notes in ((None, 1, 1), (b"{", 1, 1), ((stored / "minutes/.claims" / path.name), 2, 0)):
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        found.look()
        found.look()
        contents = json.loads(gzip.decompress(found.contents()))
        assert len(contents["windows"]["end"]) == windows
        assert len(contents["notes"]) == notes


def test_a_note_of_a_stream_that_is_none_says_nothing(damage):
    folder, _ = damage("compacted", "stream", b"[]")
    assert open_summaries(str(folder)).gaps() == []
    assert main(["show", str(folder)]) == 0
