"""Which windows of an output folder are in Iceberg tables: notes beside the claims, for as long as the folder lasts.

    .claims/registered/<UUID of the Iceberg table>/<id>.json      which windows a commit has added

An Iceberg table forgets its snapshots, and whoever maintains it may write its files anew: the notes stay. A table that
is dropped and made again has another UUID, so it gets all windows.
"""
import json
import uuid
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_coresets.transforms.writing import atomic_files

FOLDER = (".claims", "registered")
VERSION = 1
_MANY = 100  # notes of a table, from which on they become one


class Notes:
    """The notes of one Iceberg table.

    Args:
      output: the folder whose files are added.
      identity: UUID of the Iceberg table. table: what it is called, for people.
    """

    def __init__(self, output: str, identity: str, table: str) -> None:
        self._folder, self._table = str(FileSystems.join(output, *FOLDER, identity)), table

    def read(self) -> dict[str, str]:
        """Name of the window -> digest of the file that was added, of all windows that are noted.

        Raises:
          ValueError: a note is damaged or of a later version.
        """
        return _windows(_notes_in(self._folder))

    def add(self, windows: dict[str, str]) -> None:
        """Notes windows down; those that are noted already may be among them."""
        if windows:
            self._write(windows)
        found = _notes_in(self._folder)
        if len(found) > _MANY:
            self._write(_windows(found))
            for name in found:
                atomic_files.remove(self._folder, name)

    def _write(self, windows: dict[str, str]) -> None:
        held = {"version": VERSION, "table": self._table, "windows": windows}
        path = str(FileSystems.join(self._folder, f"{uuid.uuid4().hex}.json"))
        atomic_files.write_once(path, json.dumps(held, indent=1).encode() + b"\n")


def registered(output: str) -> dict[str, set[str]]:
    """Iceberg table -> names of the windows whose files have been added to it: those files must stay where they are.

    Raises:
      ValueError: a note is damaged or of a later version.
    """
    top = str(FileSystems.join(output, *FOLDER))
    found: dict[str, set[str]] = {}
    for folder in atomic_files.folders_in(top):
        for note in _notes_in(str(FileSystems.join(top, folder))).values():
            found.setdefault(str(note["table"]), set()).update(note["windows"])
    return found


def _notes_in(folder: str) -> dict[str, dict[str, Any]]:
    """Name -> content of the notes of a table."""
    while True:
        names = [name for name in atomic_files.names_in(folder) if name.endswith(".json") and not name.startswith(".")]
        try:
            return {name: _note(str(FileSystems.join(folder, name))) for name in names}
        except FileNotFoundError:  # somebody has just put several into one
            continue


def _windows(notes: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {window: digest for note in notes.values() for window, digest in note["windows"].items()}


def _note(path: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(atomic_files.read(path))
        version = found["version"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"output: must hold whole notes of Iceberg tables, got {path!r} damaged") from None
    if version != VERSION:
        raise ValueError(f"output: must hold notes of version {VERSION}, got {version!r} in {path!r}")
    return found
