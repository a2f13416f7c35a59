"""One run owns an output folder from its start to its end, and leaves its whole result or the one before.

A run takes the next number by one atomic create, writes to a folder of its own under `.staging`, and ends by the atomic
create of its record, which names its files and those that they replace. After that they are put into their places. Of
a run that is dead, whoever comes next creates the end in its stead, or finishes what its record says: so a run that
only seemed dead can't end any more, and one that was stopped in its end is brought to it.
"""
import contextlib
import dataclasses
import datetime
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_coresets.pipelines.results_folder import liveness
from beam_coresets.pipelines.results_folder.result_files import (
    CLAIMS,
    STAGING,
    VERSION,
    is_of_range,
    of_runs,
    read_trace,
    standing,
    state_of,
    strangers,
    trace,
    whole_of,
)
from beam_coresets.pipelines.results_folder.stored import require_folder
from beam_coresets.pipelines.running.launch import JobError
from beam_coresets.summaries.claim_records import digest
from beam_coresets.transforms.iceberg.notes import FOLDER as REGISTERED
from beam_coresets.transforms.iceberg.notes import registered
from beam_coresets.transforms.writing import atomic_files

PATIENCE = 10.0  # seconds for a result that is just being put into its place
_TRIES = 20
_UNWRITABLE = (OSError, BeamIOError)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that owns an output folder.

    Attributes:
      output: the folder. number: of the run there. id: nobody else's.
      command: what it is called when others are refused.
      detached: nobody waits for it: it ends by itself.
      made: it has made the output folder.
    """

    output: str
    number: int
    id: str
    command: str
    detached: bool = False
    made: bool = False

    @property
    def folder(self) -> str:
        """Where it writes, laid out as the output folder will be."""
        return str(FileSystems.join(self.output, STAGING, f"run-{self.id}"))

    def commit(self, failed: bool = False) -> None:
        """Ends with what is in `folder` as the result; done before, it is finished.

        Args:
          failed: there is no result, but letters that say why.

        Raises:
          JobError: another run has taken the output folder, whose result stands.
          ValueError: a file of somebody else's would be replaced.
        """
        mine = {"version": VERSION, "run": self.id, "command": self.command, "failed": failed}
        before, _ = of_runs(self.output)
        files = sorted(atomic_files.files_under(self.folder), key=lambda name: ("summaries/" in name, name))
        self._require_places(files, before)
        mine |= {"files": files, "replaces": before, "digests": self._digests(files)}
        if not atomic_files.write_once(trace(self.output, self.number, "end"), _json(mine)):
            end = read_trace(self.output, self.number, "end")
            if end is None or end.get("run") != self.id or "files" not in end:
                raise JobError(self._lost())
        elif state_of(self.output).highest > self.number:
            _remove(trace(self.output, self.number, "end"))
            raise JobError(self._lost())
        finish(self.output, self.number)

    def give_up(self) -> None:
        """Leaves the folder as it was before the run, but for letters that say what was refused where there is no
        result."""
        with contextlib.suppress(*_UNWRITABLE, JobError, ValueError):  # why it gave up is what is said
            kept = [name for name in atomic_files.files_under(self.folder) if name.startswith("dead_letters/")]
            if kept and not of_runs(self.output)[1] and not read_trace(self.output, self.number, "end"):
                for name in set(atomic_files.files_under(self.folder)) - set(kept):
                    atomic_files.remove(self.folder, name)
                return self.commit(failed=True)
        with contextlib.suppress(*_UNWRITABLE):
            atomic_files.remove_folder(self.folder)
            owner = read_trace(self.output, self.number, "owner")
            if owner is not None and owner["run"] == self.id:
                _remove_traces(self.output, [self.number], kinds=("owner", "beat"))
                _forget_taken(self.output)
            _remove_empty(self.output, self.made)
        return None

    def _require_places(self, files: Iterable[str], before: Iterable[str]) -> None:
        for name in set(files) - set(before):
            if FileSystems.exists(path := str(FileSystems.join(self.output, *name.split("/")))):
                raise ValueError(f"output: must have no other files where the result goes, got {path!r}")

    def _digests(self, files: Iterable[str]) -> dict[str, str]:
        """Of what commands read back, and no claim tells."""
        named = [name for name in files if name.endswith("scale.json")]
        return {name: digest(atomic_files.read(FileSystems.join(self.folder, *name.split("/")))) for name in named}

    def _lost(self) -> str:
        state = state_of(self.output)
        others = [read_trace(self.output, n, kind) for n in (state.highest, self.number) for kind in ("owner", "end")]
        who = next((_told(other) for other in others if other and other.get("run") != self.id), "another run")
        return f"output: must be this run's to its end, got {self.output!r} taken by {who}; this result is dropped"


@contextlib.contextmanager
def owning(output: str, overwrite: bool, command: str, detached: bool = False) -> Iterator[Run]:
    """Within it a run writes to `Run.folder`; at its end that is the result. One that fails leaves what was before.

    Args:
      detached: the run goes on by itself, and calls `Run.commit` when it is done.

    Raises:
      JobError: another run owns the folder, or has taken it.
      ValueError: there is another run's result and it is not to be overwritten, or the folder can't be written.
    """
    run = begin(output, overwrite, command, detached)
    try:
        with contextlib.nullcontext() if detached else liveness.signs_of_life(trace(output, run.number, "beat")):
            yield run
    except BaseException:  # an interrupt, too
        run.give_up()
        raise
    if detached:
        return
    try:
        run.commit()
    except (JobError, ValueError):
        run.give_up()
        raise
    except _UNWRITABLE as error:  # whoever comes next goes on from here
        raise JobError(f"output: must be writable to the end, got {output!r} ({_first_line(error)})") from error


@contextlib.contextmanager
def holding(output: str, command: str) -> Iterator[None]:
    """Within it a run owns a folder where it does not end at once: windows are claimed there one by one.

    Raises:
      JobError: another run owns it.
      ValueError: it can't be written.
    """
    run = begin(output, True, command, streams=True)
    try:
        with liveness.signs_of_life(trace(output, run.number, "beat")):
            yield
    finally:
        run.give_up()


def begin(output: str, overwrite: bool, command: str, detached: bool = False, streams: bool = False) -> Run:
    """Takes an output folder.

    Args:
      streams: the run adds to what is there.

    Raises:
      JobError: another run owns it.
      ValueError: there is another run's result and it is not to be overwritten, or the folder can't be written.
    """
    require_folder(output)
    try:
        run = _taken(output, command, detached, overwrite)
    except _UNWRITABLE as error:
        raise ValueError(_unwritable(output, error)) from None
    try:
        finish_others(run)
        known, result = ([], False) if streams else of_runs(output)
        if result and not overwrite:
            raise ValueError(
                f"output: must not hold another run's result, got {output!r} with "
                f"{FileSystems.join(output, *_shown(known).split('/'))} (--overwrite replaces it)"
            )
        if result:
            _require_unregistered(output)
        if not streams and (others := strangers(output, known)):
            raise ValueError(f"output: must hold no other files among its tables, got {others[0]!r}")
    except BaseException:
        run.give_up()
        raise
    return run


def _require_unregistered(output: str) -> None:
    """Raises ValueError where Iceberg tables have files of a folder whose result is to be replaced."""
    of_range = [str(FileSystems.join(output, name)) for name in atomic_files.folders_in(output) if is_of_range(name)]
    for folder in (output, *of_range):
        if tables := sorted(registered(folder)):
            raise ValueError(
                f"output: must not be replaced while Iceberg tables have its files, got {folder!r} with files in "
                f"{tables[0]} (drop the tables, then {FileSystems.join(folder, *REGISTERED)})"
            )


def _taken(output: str, command: str, detached: bool, overwrite: bool) -> Run:
    """The run that has become the folder's owner."""
    made = not atomic_files.scheme_of(output) and not os.path.exists(output)
    for _ in range(_TRIES):
        state = state_of(output)
        top = state.highest
        if top in state.owners and not _is_over(output, top, top in state.ended, overwrite):
            continue
        run = Run(output, top + 1, uuid.uuid4().hex, command, detached, made)
        about = {"version": VERSION, "run": run.id, "command": command, "detached": detached, "at": time.time()}
        if atomic_files.write_once(trace(output, run.number, "owner"), _json(about | liveness.this_process())):
            return run
    raise JobError(f"output: must be no other run's, got {output!r}, which others take and leave")


def _is_over(output: str, number: int, ended: bool, overwrite: bool) -> bool:
    """Whether a run that has owned the folder is dead, and can't end any more.

    Raises:
      JobError: it goes on.
    """
    owner = read_trace(output, number, "owner")
    if owner is None:
        return False
    if liveness.is_alive(owner, trace(output, number, "beat")) and not (owner["detached"] and overwrite):
        way_out = " (--overwrite takes it)" if owner["detached"] else ""
        raise JobError(f"output: must be no other run's, got {output!r}, which {_told(owner)} writes to{way_out}")
    if not ended and not atomic_files.write_once(
        trace(output, number, "end"), _json({"version": VERSION, "run": owner["run"], "taken": True})
    ):
        return False
    if not ended:
        atomic_files.remove_folder(str(FileSystems.join(output, STAGING, f"run-{owner['run']}")))
    return True


def finish_others(run: Run) -> None:
    """Puts the result of an earlier run, which was stopped in its end, into its place."""
    state = state_of(run.output)
    found = standing(run.output, state)
    if found is not None and found[0] in state.owners:
        finish(run.output, found[0])
    dead = [number for number in state.owners if number < run.number]
    _remove_traces(run.output, dead, kinds=("owner", "beat"))
    staging = str(FileSystems.join(run.output, STAGING))
    for name in atomic_files.folders_in(staging):
        if name.startswith("run-") and name != f"run-{run.id}":
            atomic_files.remove_folder(str(FileSystems.join(staging, name)))
    for table in (CLAIMS, "dead_letters", "late"):
        top = str(FileSystems.join(run.output, table))
        for folder in (top, *(str(FileSystems.join(top, name)) for name in atomic_files.folders_in(top))):
            atomic_files.remove_remains(folder)


def finish(output: str, number: int) -> None:
    """Puts the files of a run's record into their places, those of the result before going first."""
    record = read_trace(output, number, "end")
    if record is None:
        return
    staging = str(FileSystems.join(output, STAGING, f"run-{record['run']}"))
    left = set(atomic_files.files_under(staging))
    for name in reversed(record["replaces"]):
        if name in left or name not in record["files"]:
            atomic_files.remove(output, name)
    for name in record["files"]:
        if name in left:
            source, target = (str(FileSystems.join(at, *name.split("/"))) for at in (staging, output))
            atomic_files.move(source, target)
    atomic_files.remove_folder(str(FileSystems.join(output, STAGING)))
    state = state_of(output)
    _remove_traces(output, [n for n in state.owners | state.ended if n < number])
    _remove_traces(output, [number], kinds=("owner", "beat"))
    _remove_empty(output)


@contextlib.contextmanager
def reading(folders: Iterable[str]) -> Iterator[None]:
    """Within it the results in some folders are whole, and the same from its start to its end.

    Raises:
      JobError: a run that goes on is just putting its result into place, or has done so.
    """
    outputs = [output for folder in folders for output in whole_of(folder)]
    before = [_whole(output) for output in outputs]
    yield
    for output, run in zip(outputs, before, strict=True):
        if _run_of(output) != run:
            raise JobError(f"input: must stay as it is while it is read, got {output!r} replaced by another run")


def _whole(output: str) -> str | None:
    """Which run's result stands, once it is in its place; of a run that was stopped in its end it is put there."""
    until = time.monotonic() + PATIENCE
    while True:
        state = state_of(output)
        found = standing(output, state)
        if found is None or found[0] not in state.owners:
            return None if found is None else str(found[1]["run"])
        owner = read_trace(output, found[0], "owner")
        try:
            if owner is not None and not liveness.is_alive(owner, trace(output, found[0], "beat")):
                run = _taken(output, "finishing", False, False)
                finish_others(run)
                run.give_up()
                continue
        except JobError:  # somebody else does so
            pass
        except _UNWRITABLE as error:
            raise JobError(
                f"input: must be whole, got {output!r}, where a stopped run's result can't be put into place "
                f"({_first_line(error)})"
            ) from error
        if time.monotonic() > until:
            raise JobError(f"input: must be whole, got {output!r}, where a run is putting its result into place")
        time.sleep(0.1)


def _run_of(output: str) -> str | None:
    found = standing(output)
    return None if found is None else str(found[1]["run"])


def _told(owner: dict[str, Any]) -> str:
    """Who that is, for people."""
    command = owner.get("command", "another run")
    if "at" not in owner:
        return f"a later {command}"
    since = datetime.datetime.fromtimestamp(owner["at"], datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = "left to a cluster" if owner["detached"] else f"process {owner['pid']} on {owner['host']}"
    return f"{command} ({where}, since {since})"


def _shown(known: list[str]) -> str:
    """The file by which a result is named."""
    return min(known, key=lambda name: (name.startswith("."), name))


def _remove(path: str) -> None:
    folder, name = FileSystems.split(path)
    atomic_files.remove(folder, name)


def _forget_taken(output: str) -> None:
    """Removes the ends of runs that were dead when others took the folder, once nobody has it."""
    with contextlib.suppress(ValueError):  # a damaged record: for people to look at
        state = state_of(output)
        for number in state.ended if not state.owners else ():
            if "files" not in (read_trace(output, number, "end") or {"files": ()}):
                _remove_traces(output, [number])


def _remove_traces(output: str, numbers: Iterable[int], kinds: Iterable[str] = ("end", "owner", "beat")) -> None:
    for number in sorted(numbers):
        for kind in kinds:
            _remove(trace(output, number, kind))


def _remove_empty(output: str, made: bool = False) -> None:
    """Of the folders that a run makes, those that hold nothing."""
    if not atomic_files.scheme_of(output):
        for name in (STAGING, CLAIMS, *([""] if made else [])):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(output, name))


def _unwritable(output: str, error: BaseException) -> str:
    return f"output: must be a folder that can be written, got {output!r} ({_first_line(error)})"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
