"""What people type for their files: what it means, each file once, and what is said of the others."""
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.finding.paths import find, matching, on_this_machine

TREE = ("a.csv", "data [2].csv", "data 2.csv", "s[1]/x.csv", "s1/x.csv", "s1/deep/y.csv", "_SUCCESS", "_odd.csv",
        ".hidden.csv", "s1/_tmp/z.csv", "s1/.x.csv.crc")  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files of TREE, which is the working folder."""
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "_SUCCESS" else "x,y\n1,2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("typed", "meant"), [
    ("a.csv", ["a.csv"]),
    ("*.csv", ["a.csv", "data 2.csv", "data [2].csv"]),
    ("./a*", ["./a.csv"]),
    ("data [2].csv", ["data [2].csv"]),
    ("data [0-9].csv", ["data 2.csv"]),
    ("s[1]/*.csv", ["s[1]/x.csv"]),
    ("s*/x.csv", ["s1/x.csv", "s[1]/x.csv"]),
    ("**/x.csv", ["s1/x.csv", "s[1]/x.csv"]),
    ("**.csv", ["a.csv", "data 2.csv", "data [2].csv", "s1/deep/y.csv", "s1/x.csv", "s[1]/x.csv"]),
    ("s1/**", ["s1/deep/y.csv", "s1/x.csv"]),
    ("s1", ["s1/deep/y.csv", "s1/x.csv"]),
    ("s1/", ["s1/deep/y.csv", "s1/x.csv"]),
    ("_odd.csv", ["_odd.csv"]),
    ("_*.csv", ["_odd.csv"]),
    (".h*.csv", [".hidden.csv"]),
    ("s1/_tmp/*", ["s1/_tmp/z.csv"]),
])  # fmt: skip
def test_what_is_typed_and_what_is_meant(here, typed, meant):
    assert [file.path for file in find(typed).files] == meant
    whole = [file.path for file in find(os.path.join(here, typed)).files]
    assert [os.path.relpath(path, here) for path in whole] == [os.path.normpath(path) for path in meant]
    assert [f.path for f in find(f"file://{here}/{typed}").files] == whole


def test_each_file_once_by_whatever_names(here):
    os.symlink(here / "a.csv", here / "link.csv")
    found = find(["a.csv", "./a.csv", str(here / "a.csv"), "link.csv", "s1/../a.csv"])
    assert len(found.files) == 1
    assert "counted once" in found.notes[0]
    both = find(["a.csv", str(here / "s1" / "x.csv")]).files
    assert [os.path.relpath(file.path, here) for file in both] == ["a.csv", "s1/x.csv"]
    assert all(os.path.isabs(file.path) for file in both)


def test_what_is_left_out_is_said(here):
    (here / "empty.csv").write_bytes(b"")
    found = find("*.csv")
    assert "empty.csv" not in [file.path for file in found.files]
    assert any("'empty.csv'" in note and "no byte" in note for note in found.notes)
    assert any("'_odd.csv'" in note for note in found.notes)
    assert not any("_SUCCESS" in note for note in find(".").notes)


@pytest.mark.parametrize(("typed", "said"), [
    (r"C:\data\x.csv", "a path of Windows"),
    ("D:/data/*.csv", "a path of Windows"),
    (r"\\server\share\x.csv", "a path of Windows"),
    ("file://elsewhere/x.csv", "on this machine"),
    ("nothing*.csv", r"0 files"),
    ("_nothing", r"0 files"),
    ("gone/x.csv", r"0 files"),
    ("gone/*.csv", r"0 files"),
    ("broken.csv", r"broken.csv"),
    ("br*.csv", r"No such file"),
    ("pipe", r"a pipe or device"),
    ("star*", r"also matches 'starry'"),
    ("empty", r"without a byte"),
])  # fmt: skip
def test_what_can_not_be_is_refused_by_name(here, typed, said):
    os.symlink(here / "gone", here / "broken.csv")
    os.mkfifo(here / "pipe")
    (here / "star*").write_text("x\n1\n")
    (here / "starry").write_text("x\n1\n")
    (here / "empty").mkdir()
    (here / "empty" / "a.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=f"^input: .*{said}"):
        find(typed)


def test_only_what_begins_with_an_underscore_is_there(here):
    (here / "u").mkdir()
    (here / "u" / "_a.csv").write_text("x\n1\n")
    with pytest.raises(ValueError, match=r"0 files\); 'u/_a.csv' left out"):
        find("u/*.csv")


def test_home_and_urls(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert [file.path for file in find("~/a.csv").files] == [str(here / "a.csv")]
    (here / "a b.csv").write_text("x\n1\n")
    assert on_this_machine(f"file://localhost{here}/a%20b.csv") == str(here / "a b.csv")
    assert on_this_machine("gs://bucket/~/x") == "gs://bucket/~/x"
    assert [file.path for file in find(here / "a.csv").files] == [str(here / "a.csv")]


def test_a_link_to_a_folder_around_it_ends(here):
    os.symlink(here / "s1", here / "s1" / "deep" / "loop")
    assert [file.path for file in find("s1").files] == ["s1/deep/y.csv", "s1/x.csv"]


class _Distant(LocalFileSystem):
    """distant:///tmp/x is /tmp/x, but nothing that is local may be assumed of it."""

    @classmethod
    def scheme(cls):
        return "distant"

    def match(self, patterns, limits=None):
        results = super().match([p.removeprefix("distant://") for p in patterns], limits)
        for result in results:
            found = result.metadata_list
            result.metadata_list = [FileMetadata("distant://" + f.path, f.size_in_bytes) for f in found]
        return results

    def exists(self, path):
        return super().exists(path.removeprefix("distant://"))

    def metadata(self, path):
        return FileMetadata(path, super().metadata(path.removeprefix("distant://")).size_in_bytes)


@pytest.mark.parametrize("typed", ["a.csv", "*.csv", "data [2].csv", "s1", "s1/", "s1/**", "_*.csv", "s*/x.csv"])
def test_other_filesystems_mean_the_same(here, typed):
    near = [file.path for file in find(str(here / typed)).files]
    assert [file.path.removeprefix("distant://") for file in find(f"distant://{here}/{typed}").files] == near


def test_a_file_that_goes_while_it_is_listed_is_not_there(here, monkeypatch):
    real = os.stat
    monkeypatch.setattr("beam_coresets.transforms.reading.finding.paths.os.stat", lambda path: (
        (_ for _ in ()).throw(FileNotFoundError(2, "gone", path)) if path == "a.csv" else real(path)))
    assert [file.path for file in matching("*.csv")] == ["data 2.csv", "data [2].csv"]


def test_rows_are_read_from_what_was_found(here):
    points = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    np.save(here / "p.npy", points)
    read = ReadBlocks("*.npy")
    np.testing.assert_array_equal(np.concatenate([block.points for block in read.here()]), points)
    for day in (1, 2):
        (here / f"t/day={day}").mkdir(parents=True)
        pq.write_table(pa.table({"x": [1.0 * day, 2.0], "y": [0.0, 1.0]}), here / f"t/day={day}/part.parquet")
    (here / "t/_SUCCESS").write_bytes(b"")
    (here / "t/day=1/zero.parquet").write_bytes(b"")
    (here / "t/day=1/.part.parquet.crc").write_bytes(b"crc")
    read = ReadBlocks("t")
    assert sum(len(block) for block in read.here()) == 4
    assert any("zero.parquet" in note for note in read.notes)
