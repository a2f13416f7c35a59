"""Files that are created once, whole or not at all; on real object stores where their servers are at hand."""
import errno
import os
import pathlib
import threading
import uuid

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.atomic_files import create_exclusively, write_once


def files_under(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_file_is_created_once_and_the_first_content_stays(tmp_path):
    path = str(tmp_path / "new" / "folder" / "table.avro")
    assert write_once(path, b"first")
    assert not write_once(path, b"second")
    assert pathlib.Path(path).read_bytes() == b"first"
    assert files_under(tmp_path) == ["new/folder/table.avro"]


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    path, together, won = str(tmp_path / "t"), threading.Barrier(8), []

    def race(i):
        together.wait()
        if write_once(path, bytes([i]) * 100_000):
            won.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(won) == 1
    assert pathlib.Path(path).read_bytes() == bytes(won) * 100_000
    assert files_under(tmp_path) == ["t"]


def test_losing_the_race_after_the_check_changes_nothing(tmp_path, monkeypatch):
    path = str(tmp_path / "t")
    write_once(path, b"first")
    monkeypatch.setattr(FileSystems, "exists", lambda path: False)
    assert not write_once(path, b"second")
    assert pathlib.Path(path).read_bytes() == b"first"
    assert files_under(tmp_path) == ["t"]


@pytest.mark.parametrize("step", ["write", "link"])
def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch, step):
    def broken(*args):
        raise OSError(errno.ENOSPC, "disk full")

    content = b"content"
    if step == "link":
        monkeypatch.setattr(os, "link", broken)
    else:
        content = None  # no file takes that
    with pytest.raises((OSError, TypeError), match=r"disk full|NoneType"):
        write_once(str(tmp_path / "t"), content)
    assert files_under(tmp_path) == []


def test_a_drive_without_hard_links_gets_the_file_once_too(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", unsupported)
    assert write_once(str(tmp_path / "t"), b"first")
    assert not write_once(str(tmp_path / "t"), b"second")
    assert (tmp_path / "t").read_bytes() == b"first"
    assert files_under(tmp_path) == ["t"]


def test_another_filesystem_gets_the_same_by_a_move(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "scheme_of", lambda path: "other")
    assert write_once(str(tmp_path / "t.parquet"), b"first")
    assert not write_once(str(tmp_path / "t.parquet"), b"second")
    assert (tmp_path / "t.parquet").read_bytes() == b"first"
    assert files_under(tmp_path) == ["t.parquet"]


@pytest.mark.parametrize("path", ["ftp://host/out", "http://host/out", "mem://x"])
def test_a_filesystem_that_can_not_tell_who_was_first_is_refused(path):
    with pytest.raises(ValueError, match=f"output: must be on a filesystem with an atomic create .*, got '{path}'"):
        create_exclusively(path, b"")


@pytest.fixture
def bucket(request):
    """A new bucket on a real server, S3's or Google's protocol: see `BEAM_CORESETS_S3` and `STORAGE_EMULATOR_HOST`."""
    name = f"claims-{uuid.uuid4().hex[:8]}"
    if request.param == "s3":
        boto3 = pytest.importorskip("boto3", reason="needs the extra aws")
        endpoint = os.environ.get("BEAM_CORESETS_S3") or pytest.skip("BEAM_CORESETS_S3: no server's address given")
        FileSystems.set_options(PipelineOptions([
            f"--s3_endpoint_url={endpoint}", "--s3_access_key_id=a", "--s3_secret_access_key=b",
            "--s3_region_name=us-east-1",
        ]))  # fmt: skip
        boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b",
                     region_name="us-east-1").create_bucket(Bucket=name)  # fmt: skip
    else:
        storage = pytest.importorskip("google.cloud.storage", reason="needs the extra gcp")
        if not os.environ.get("STORAGE_EMULATOR_HOST"):
            pytest.skip("STORAGE_EMULATOR_HOST: no server's address given")
        storage.Client(project="test").create_bucket(name)
    return f"{request.param}://{name}"


@pytest.mark.parametrize("bucket", ["s3", "gs"], indirect=True)
def test_an_object_store_takes_the_first_of_many_writers(bucket):
    path, together, won = f"{bucket}/.claims/w.json", threading.Barrier(8), []

    def race(i):
        together.wait()
        if create_exclusively(path, bytes([i]) * 1000):
            won.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(won) == 1
    assert atomic_files.read(path) == bytes(won) * 1000
    assert not create_exclusively(path, b"late")
    if bucket.startswith("gs://"):
        return  # the server at hand knows no batch requests, which Beam's moves and removals are
    atomic_files.write(f"{bucket}/.staging/w/a/t.avro", b"table")
    for _ in range(2):
        atomic_files.move(f"{bucket}/.staging/w/a/t.avro", f"{bucket}/t/day=1/w.avro")
    assert atomic_files.read(f"{bucket}/t/day=1/w.avro") == b"table"
    atomic_files.write(f"{bucket}/.staging/w/b/t.avro", b"another")
    atomic_files.remove_folder(f"{bucket}/.staging/w")
    assert not FileSystems.exists(f"{bucket}/.staging/w/b/t.avro")
    assert atomic_files.names_in(f"{bucket}/.claims") == ["w.json"]


def test_nothing_is_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert atomic_files.names_in(str(tmp_path / "file" / "out")) == []
