"""Flink's retained checkpoints and savepoints, as folders: which one a job goes on from."""
import contextlib
import os
import pathlib

METADATA = "_metadata"  # is written last: a checkpoint with it is whole


def is_uri(path: str) -> bool:
    """Whether a checkpoint is named for the cluster, not as a folder of this machine."""
    return "://" in path or path.startswith("file:")


def newest(folder: str) -> str | None:
    """The newest whole checkpoint or savepoint in a folder of this machine or anywhere below it; None without one, or
    where the folder is somewhere else."""
    if is_uri(folder) and not folder.startswith("file:"):
        return None
    found = []
    for path, _, files in os.walk(folder.removeprefix("file://").removeprefix("file:")):
        if METADATA in files:
            with contextlib.suppress(FileNotFoundError):  # the job has removed it meanwhile
                found.append((os.stat(os.path.join(path, METADATA)).st_mtime_ns, _number(path), path))
    return max(found)[2] if found else None


def _number(path: str) -> int:
    """N of chk-N; they may be younger than a file system's clock tells apart."""
    name = os.path.basename(path).rpartition("-")[2]
    return int(name) if name.isdigit() else -1


def existing(checkpoint: str) -> str:
    """The URI of a checkpoint or savepoint to go on from: of a folder of this machine the newest whole one in it or
    below it.

    Raises:
      ValueError: there is none.
    """
    if is_uri(checkpoint):
        return checkpoint
    folder = pathlib.Path(checkpoint)
    folder = folder.parent if folder.name == METADATA else folder
    found = newest(str(folder))
    if found is None:
        wanted = f"a folder with a checkpoint's {METADATA} in it (chk-N) or below it"
        raise ValueError(f"resume_from: must be {wanted}, got {checkpoint!r}")
    return pathlib.Path(found).resolve().as_uri()
