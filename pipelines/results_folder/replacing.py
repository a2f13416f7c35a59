"""A new result in place of an old one, which stays until the new one is there."""
import contextlib
import re
from collections.abc import Iterator

from apache_beam.io.filesystems import FileSystems

from beam_coresets import tables
from beam_coresets.transforms.writing.atomic_files import folders_in, remove_folder
from beam_coresets.transforms.writing.claims import FOLDERS
from beam_coresets.transforms.writing.stored_tables import files_of

ASIDE = ".replaced"


def remove_result(output: str) -> None:
    """All that a job has written but its dead letters; what `set_aside` has put aside stays."""
    result, rest = _files_of_a_run(output)
    letters = files_of(output, "dead_letters")
    FileSystems.delete([path for path in result + rest if path not in letters and not path.endswith(ASIDE)])


@contextlib.contextmanager
def replacing(output: str, overwrite: bool) -> Iterator[None]:
    """Within it, a new result is written to `output`; one that fails leaves what was there before.

    Raises:
      ValueError: there is another run's result and it is not to be overwritten.
    """
    aside = set_aside(output, overwrite)
    try:
        yield
    except BaseException:  # an interrupt, too
        put_back(output, aside)
        raise
    if aside:
        FileSystems.delete(list(aside.values()))
        for name in _of_a_range(output):
            if not files_of(output, name):
                remove_folder(FileSystems.join(output, name))


def set_aside(output: str, overwrite: bool) -> dict[str, str]:
    """Refuses another run's result, or renames it until the new one is there.

    What a failed run has left where there is no result is removed.

    Returns:
      Where each file went, by its path.

    Raises:
      ValueError: there is a result and it is not to be overwritten.
    """
    result, rest = _files_of_a_run(output)
    if result and not overwrite:
        raise ValueError(
            f"output: must not hold another run's result, got {output!r} with {result[0]} (--overwrite replaces it)"
        )
    if not result:
        if rest:
            FileSystems.delete(rest)
        return {}
    aside = {path: path + ASIDE for path in result + rest}
    FileSystems.rename(list(aside), list(aside.values()))
    return aside


def put_back(output: str, aside: dict[str, str]) -> None:
    """Undoes `set_aside` after a job that failed: what that one wrote goes, the old result comes back."""
    if not aside:
        return
    result, rest = _files_of_a_run(output)
    failed = sorted(set(result + rest) - set(aside.values()))
    if failed:
        FileSystems.delete(failed)
    FileSystems.rename(list(aside.values()), list(aside))


def _files_of_a_run(output: str) -> tuple[list[str], list[str]]:
    """What is a result there, of any word, and what belongs to one."""
    names = (*tables.WEAK_TABLES, *_of_a_range(output), "assigned")
    result = [path for name in names for path in files_of(output, name)]
    rest = [path for name in ("dead_letters", *FOLDERS) for path in files_of(output, name)]
    single = (FileSystems.join(output, name) for name in ("scale.json", "curve.csv", "sizes.csv", "bounds.csv"))
    return result, rest + [path for path in single if FileSystems.exists(path)]


def _of_a_range(output: str) -> list[str]:
    """The folders that `solve` has made of several k."""
    return [name for name in folders_in(output) if re.fullmatch(r"k=\d+", name)]
