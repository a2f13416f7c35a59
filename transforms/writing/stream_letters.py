"""Dead letters of a stream: in files named by their window, written before the reports that they come with leave, so
that no end of the stream, however sudden, parts a decided window from what was refused in it."""
import collections
import hashlib
import re
from collections.abc import Iterable, Sequence

from apache_beam.io.filesystems import FileSystems

from beam_coresets import tables
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.dead_letters import letters_table

STRETCH = 16_384  # offsets, or rows of a file, whose letters are looked up together
_HELD = 32  # stretches that a process remembers
_NUMBER = re.compile(r"\b(?:offset|row) (\d+)")

Bounds = tuple[float, float] | None  # of a window, in seconds since the epoch; None where it is not known


class StreamLetters:
    """Writes letters to `output`/dead_letters/day=.../START-END-STRETCH-FIRST.`form`, each once.

    All holders of a part call `write` with what was refused in it, in the order of the part; where one begins and the
    next goes on may differ. A file is created only once, under the name of its first letter, and whoever finds the name
    taken reads what is there and goes on behind it. So holders that stop, start again or fall behind repeat nothing.

    Args:
      output: where the stream's tables are, on a filesystem with an atomic create.
      form: "parquet", "avro" or "jsonl".

    Raises:
      ValueError: an unknown format.
    """

    def __init__(self, output: str, form: str = "parquet") -> None:
        if form not in tables.TABLE_FORMATS:
            raise ValueError(f"format: must be one of {', '.join(tables.TABLE_FORMATS)}, got {form!r}")
        self._output, self._form = output, form
        self._known: collections.OrderedDict[str, set[tuple[str, ...]]] = collections.OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_known": collections.OrderedDict()}

    def write(self, letters: Sequence[tuple[DeadLetter, Bounds]]) -> int:
        """Writes those letters that nobody has written, each into its window's files; how many those were.

        Raises:
          OSError: the folder can't be written.
        """
        together: dict[tuple[str, Bounds], list[DeadLetter]] = {}
        for letter, bounds in letters:
            together.setdefault((_stretch(letter), bounds), []).append(letter)
        return sum(self._write(stretch, bounds, found) for (stretch, bounds), found in together.items())

    def _write(self, stretch: str, bounds: Bounds, letters: list[DeadLetter]) -> int:
        known = self._known.get(stretch)
        if known is None or any(_identity(letter) not in known for letter in letters):
            known = self._look(stretch)  # again: another holder may have refused more, or less, by now
        while letters := [letter for letter in letters if _identity(letter) not in known]:
            path = self._path(stretch, bounds, letters[0])
            if atomic_files.create_exclusively(path, tables.encode(letters_table(letters), self._form)):
                known.update(map(_identity, letters))
                return len(letters)
            known.update(self._read(path))
            known.add(_identity(letters[0]))  # the name says so, whatever else became of the file
        return 0

    def _look(self, stretch: str) -> set[tuple[str, ...]]:
        """What its files hold by now of a stretch, in whichever windows."""
        folder = str(FileSystems.join(self._output, "dead_letters"))
        folders = [folder, *(str(FileSystems.join(folder, day)) for day in atomic_files.folders_in(folder))]
        paths = [FileSystems.join(day, name) for day in folders for name in atomic_files.names_in(day)
                 if f"-{stretch}-" in name and name.endswith(f".{self._form}")
                 and not name.startswith(".")]  # fmt: skip
        self._known[stretch] = {identity for path in paths for identity in self._read(str(path))}
        self._known.move_to_end(stretch)
        if len(self._known) > _HELD:
            self._known.popitem(last=False)
        return self._known[stretch]

    def _read(self, path: str) -> Iterable[tuple[str, ...]]:
        rows = tables.decode(atomic_files.read(path), self._form).to_pylist()
        return [_identity(DeadLetter(**row)) for row in rows]

    def _path(self, stretch: str, bounds: Bounds, first: DeadLetter) -> str:
        window = Window(*(bounds or (None, None)))
        folder = [window.folder] if window.folder else []
        span = window.name.rpartition("-r")[0] if bounds else "no-window"
        name = f"{span}-{stretch}-{_short(*_identity(first))}.{self._form}"
        return str(FileSystems.join(self._output, "dead_letters", *folder, name))


def _identity(letter: DeadLetter) -> tuple[str, ...]:
    """What tells a letter from all others: a message or row is refused once; of a whole file there may be several."""
    if _NUMBER.search(letter.position):
        return letter.source, letter.position
    return letter.source, letter.position, letter.reason


def _stretch(letter: DeadLetter) -> str:
    """The name of the stretch of messages or rows that a letter is of; the same for all who read it."""
    found = _NUMBER.search(letter.position)
    if found is None:
        return _short(letter.source)
    before, number = letter.position[: found.start()], int(found.group(1)) // STRETCH
    return _short(letter.source, before, str(number))


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]
