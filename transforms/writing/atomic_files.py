"""Files that are created once, whole or not at all, on the filesystems that can."""
import contextlib
import ctypes
import errno
import os
import pathlib
import shutil
import time
import uuid
from collections.abc import Iterator
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # as on FAT and some network drives

_HERE, _EXCHANGE = -100, 2  # of Linux's renameat2: paths as the process has them; both names stay
_ABANDONED = 60.0  # seconds after which nobody will give a file its name


def scheme_of(path: str) -> str:
    """"gs" of "gs://bucket/name"; empty for a path on this machine's own filesystem."""
    return path.split("://", 1)[0].lower() if "://" in path else ""


def require_atomic(path: str) -> None:
    """Checks that the first of several writers can be told there.

    Raises:
      ValueError: the filesystem has no atomic create that is known.
    """
    if scheme_of(path) not in _CREATE:
        raise ValueError(
            f"output: must be on a filesystem with an atomic create (local, gs://, s3://, hdfs://), got {path!r}"
        )


def create_exclusively(path: str, data: bytes) -> bool:
    """Creates a file with this content unless there is one; says whether it did. Of several writers one succeeds.

    Whoever sees the file sees all of it; only on drives without hard links may a reader come before the content.

    Raises:
      ValueError: the filesystem has no atomic create that is known.
    """
    require_atomic(path)
    return _CREATE[scheme_of(path)](path, data)


def write_once(path: str, data: bytes) -> bool:
    """`create_exclusively`; on other filesystems a check and a move: two writers at the same moment may both succeed,
    the later one replacing equal content."""
    if FileSystems.exists(path):
        return False
    if scheme_of(path) in _CREATE:
        return create_exclusively(path, data)
    temporary = _beside(path)
    write(temporary, data)
    FileSystems.rename([temporary], [path])
    return True


def write(path: str, data: bytes) -> None:
    """Writes a file that nobody else writes, and the folders above it; on this machine, to the disk."""
    if not scheme_of(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return
    with FileSystems.create(path, mime_type="application/octet-stream", compression_type="uncompressed") as file:
        file.write(data)


def replace(path: str, data: bytes) -> None:
    """Writes a file that only this process writes, again and again; whoever reads it sees one content or the next."""
    if not scheme_of(path):
        temporary = _beside(path)
        write(temporary, data)
        os.replace(temporary, path)
        return
    with FileSystems.create(path, mime_type="application/octet-stream", compression_type="uncompressed") as file:
        file.write(data)


def read(path: str) -> bytes:
    """The whole content.

    Raises:
      FileNotFoundError: there is no such file.
    """
    if not scheme_of(path):
        return pathlib.Path(path).read_bytes()
    if not FileSystems.exists(path):
        raise FileNotFoundError(errno.ENOENT, "no such file", path)
    with FileSystems.open(path, compression_type="uncompressed") as file:
        content: bytes = file.read()
    return content


def move(source: str, target: str) -> None:
    """Gives a file another name, under which nobody puts anything else; fine if somebody has just done the same.

    Raises:
      OSError: neither is there, or it can't be done.
    """
    try:
        if scheme_of(target):
            FileSystems.rename([source], [target])
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
    except OSError:
        if not FileSystems.exists(target):
            raise


@contextlib.contextmanager
def locked(folder: str, alone: bool = False, wait: bool = True) -> Iterator[bool]:
    """Within it nobody else has the folder's lock `alone`, or with `alone` at all; says whether that is so.

    It is not without `wait` where others have it, and where there are no locks: on other filesystems than this
    machine's. Whoever is killed has none any more.
    """
    if fcntl is None or scheme_of(folder):
        yield False
        return
    os.makedirs(folder, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
            done = True
        except OSError:
            done = False
        yield done
    finally:
        os.close(handle)


def swap(one: str, other: str) -> None:
    """Gives each of two folders the other's name, in one step that nobody sees half of.

    Raises:
      OSError: one is not there, or the filesystem can't do it.
    """
    call = None if scheme_of(one) else getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "two folders can't be swapped here", one)
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


def names_in(folder: str) -> list[str]:
    """The names of the files in a folder; none if there is no such folder."""
    if not scheme_of(folder):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(os.listdir(folder))
        return []
    found = FileSystems.match([FileSystems.join(folder, "*")])[0].metadata_list
    return sorted(metadata.path.rsplit("/", 1)[-1] for metadata in found)


def folders_in(folder: str) -> list[str]:
    """The names of the folders in a folder that hold anything; none if there is no such folder."""
    if not scheme_of(folder):
        return [name for name in names_in(folder) if os.path.isdir(os.path.join(folder, name))]
    found = FileSystems.match([FileSystems.join(folder, "**")])[0].metadata_list
    below = (metadata.path.removeprefix(folder).lstrip("/") for metadata in found)
    return sorted({path.split("/")[0] for path in below if "/" in path})


def files_under(folder: str) -> list[str]:
    """The files in a folder and below, as parts of paths from there on; none if there is no such folder."""
    if not scheme_of(folder):
        found = (os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)
        return sorted(name.replace(os.sep, "/") for name in found)
    listed = FileSystems.match([FileSystems.join(folder, "**")])[0].metadata_list
    return sorted(metadata.path.removeprefix(folder).lstrip("/") for metadata in listed)


def remove(folder: str, name: str) -> None:
    """Removes a file below a folder, unless somebody has, and the folders in between that it was the last file of."""
    path = str(FileSystems.join(folder, *name.split("/")))
    if scheme_of(folder):
        if FileSystems.exists(path):
            FileSystems.delete([path])
        return
    pathlib.Path(path).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # what is not empty stays
        while (name := os.path.dirname(name)):
            os.rmdir(os.path.join(folder, name))


def remove_folder(folder: str) -> None:
    """Removes a folder with all that is in it, or as much of it as others have left."""
    if not scheme_of(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    found = FileSystems.match([FileSystems.join(folder, "**")])[0].metadata_list
    with contextlib.suppress(OSError):
        FileSystems.delete([metadata.path for metadata in found])


def remove_remains(folder: str) -> None:
    """Removes what writers that were killed have left of files that never got their names."""
    for name in [] if scheme_of(folder) else names_in(folder):
        if name.startswith(".") and name.endswith(".tmp"):
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - os.path.getmtime(path) > _ABANDONED:
                    os.unlink(path)


def _beside(path: str) -> str:
    folder, name = FileSystems.split(path)
    return str(FileSystems.join(folder, f".{name[:150]}.{uuid.uuid4().hex}.tmp"))


def _create_locally(path: str, data: bytes) -> bool:
    temporary = _beside(path)
    try:
        write(temporary, data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with contextlib.suppress(FileExistsError):
            write(path, data)
            return True
        return False
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)
    return True


def _create_in_gcs(path: str, data: bytes) -> bool:
    from google.api_core.exceptions import PreconditionFailed  # type: ignore[import-not-found,import-untyped]

    bucket, name = _bucket_and_name(path)
    try:
        _gcs_client(path).bucket(bucket).blob(name).upload_from_string(data, if_generation_match=0)
    except PreconditionFailed:
        return False
    return True


def _gcs_client(path: str) -> Any:
    """The client that Beam itself uses, with the job's credentials."""
    from apache_beam.io.gcp.gcsio import GcsIO

    return GcsIO(pipeline_options=_options(path)).client


def _create_in_s3(path: str, data: bytes) -> bool:
    from botocore.exceptions import ClientError  # type: ignore[import-not-found,import-untyped]

    bucket, name = _bucket_and_name(path)
    client = _s3_client(path)
    while True:
        try:
            client.put_object(Bucket=bucket, Key=name, Body=data, IfNoneMatch="*")
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 412:
                return False
            if status != 409:  # another write is under way: ask again what has become of it
                raise
        else:
            return True


def _s3_client(path: str) -> Any:
    """The client that Beam itself uses, with the job's --s3_... options."""
    from apache_beam.io.aws.clients.s3.boto3_client import Client

    return Client(_options(path)).client


def _options(path: str) -> Any:
    """The options that Beam's own access to this filesystem has."""
    filesystem = FileSystems.get_filesystem(path)
    options = getattr(filesystem, "_options", None) or getattr(filesystem, "_pipeline_options", None)
    return PipelineOptions() if options is None else options


def _create_in_hdfs(path: str, data: bytes) -> bool:
    """A rename, which the name node refuses if the name is taken."""
    temporary = _beside(path)
    write(temporary, data)
    try:
        FileSystems.rename([temporary], [path])
    except OSError:
        if not FileSystems.exists(path):
            raise
        FileSystems.delete([temporary])
        return False
    return True


def _bucket_and_name(path: str) -> tuple[str, str]:
    bucket, _, name = path.split("://", 1)[1].partition("/")
    return bucket, name


_CREATE = {"": _create_locally, "gs": _create_in_gcs, "s3": _create_in_s3, "hdfs": _create_in_hdfs}
