"""Claims: of several decisions of one window and revision the first one counts, whatever stops in between.

    .staging/<window>/<attempt>/   a decision's files while nobody may see them
    .claims/<window>.json          names one attempt; who creates it has decided the window
    summaries/day=2026-11-21/...   the claimed files, moved there: what is not always written first, then coreset,
                                   columns, centers and summaries

Whoever finds a claim whose files are not all in their places finishes the moves. So the tables' folders never hold
anything unclaimed or half-written, and whoever sees a window's row in `summaries` finds the rest.

Days that are over may be compacted (`beam_coresets.transforms.writing.compaction`): their windows have no claims of
their own any more, and the day's record says what these said. Claims are created, and files put into their places,
under a lock that whoever compacts waits for.
"""
import json
import time
import uuid
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_coresets import table_schemas, tables
from beam_coresets.results.summary import Summary
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.claim_records import (
    CLAIM_VERSION,
    FOLDERS,
    Claim,
    as_claimed,
    digest,
    is_claim,
    is_part,
    is_record,
    may_hold,
    parsed,
    place_of,
    staged,
)
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.compacted_days import CompactedDays, decoded, is_compacted

ORDER = ("coreset", "columns", "centers", "summaries")
FULL_ORDER = ("candidates", "outliers", "events", *ORDER)
WANTED = ("events", *ORDER)  # unless somebody says else; events only of windows that have any
_PATIENCE = 20  # tenths of a second for the content of a claim on a drive where the name comes first


class Claims:
    """The decided windows of one output folder.

    Args:
      output: a folder on a filesystem with an atomic create; the tables become folders in it.
      form: "parquet", "avro" or "jsonl".
      wanted: which tables are written; none where a folder is only read.

    Attributes:
      compacted: the decided windows that have no claims of their own any more.

    Raises:
      ValueError: an unknown format, or a filesystem on which the first decision can't be told.
    """

    def __init__(self, output: str, form: str = "parquet", wanted: Collection[str] = WANTED) -> None:
        if form not in tables.TABLE_FORMATS:
            raise ValueError(f"format: must be one of {', '.join(tables.TABLE_FORMATS)}, got {form!r}")
        if wanted:
            atomic_files.require_atomic(output)
        self.output, self.form = output, form
        self.compacted = CompactedDays(output)
        self.wanted = tuple(name for name in FULL_ORDER if name in wanted)

    @classmethod
    def of(cls, folder: str) -> "Claims | None":
        """Those of a folder that is read; None where it has none, as where another program has made it."""
        names = atomic_files.names_in(str(FileSystems.join(folder, FOLDERS[0])))
        if not any(is_claim(name) or is_record(name) for name in names):
            return None
        return cls(folder, wanted=())

    def require_writable(self) -> None:
        """Checks, from here, that the output folder can be written; workers elsewhere must reach it under this name.

        Raises:
          ValueError: it can't be, or its last window is claimed in a form that this version does not read.
        """
        for name in self.last():
            self._claim(name)
        probe = self._path(".staging", f".probe-{uuid.uuid4().hex}", "file")
        try:
            atomic_files.write(probe, b"")
            atomic_files.remove_folder(probe.rpartition("/")[0])
        except (OSError, BeamIOError) as error:
            raise ValueError(f"output: must be a folder that can be written, got {self.output!r} ({error})") from None

    def publish(self, summary: Summary) -> bool:
        """Claims the window for this decision and puts its tables in their places.

        Returns:
          Whether the claimed decision is this one, now or since an earlier attempt; else it is to be dropped.
        """
        claim, mine = self._claim(summary.window.name), False
        if claim is None:
            claim, mine = self._staked(summary)
        claim = self._finished(claim)
        if is_compacted(claim):
            own = (digest(tables.encode(summary.table(name), claim["form"])) for name in claim["files"])
            return mine or digest("".join(own).encode()) == claim["digest"]
        return mine or all(  # of another decision the summaries differ, and the rest need not be looked at
            digest(tables.encode(summary.table(name), claim["form"])) == claim["files"][name]["digest"]
            for name in reversed(claim["files"])
        )

    def decided(self, window: Window) -> bool:
        """Whether any decision of this window and revision is claimed."""
        own = self._path(FOLDERS[0], f"{window.name}.json")
        return bool(FileSystems.exists(own)) or self.compacted.claim(window.name) is not None

    def winner(self, window: Window) -> int | None:
        """Which of the coordinator's replicas has decided this window and revision; None if it is not decided."""
        claim = self._claim(window.name)
        return None if claim is None else int(claim.get("replica", 0))

    def read(self, window: Window | str, table: str) -> pa.Table:
        """A table of a claimed window, given itself or its name.

        Raises:
          ValueError: it is not decided, or its decision has no such table.
        """
        for left in range(_PATIENCE, 0, -1):
            claim = self.claim(window)
            if table not in claim["files"]:
                raise ValueError(f"table: must be one of {', '.join(claim['files'])}, got {table!r}")
            claim = self._finished(claim)
            try:
                return table_schemas.typed(self._rows(claim, table), table)
            except FileNotFoundError:  # it is just being compacted
                if left == 1:
                    raise
        raise AssertionError

    def read_file(self, path: str, table: str) -> bytes:
        """The content of a file of a table with a claim of its own, as it was claimed.

        Raises:
          ValueError: no claim names it, or it is not what was written.
        """
        return as_claimed(atomic_files.read(path), self._named(path, table)["files"][table], path, table)

    def rows_of(self, path: str, table: str) -> Iterator[pa.Table]:
        """The rows of a file of a table, as it was claimed: at once, or of many windows a few windows at a time.

        Where it has been compacted since its name was read, the same rows from where they are now.

        Raises:
          ValueError: no claim names it, or it is not what was written.
        """
        name, form = path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)
        if is_part(name):
            yield from self.compacted.part(path, name, form, table)
            return
        if not is_compacted(self._named(path, table)):
            try:
                data = self.read_file(path, table)
            except FileNotFoundError:
                if self.compacted.claim(name) is None:
                    raise
            else:
                yield decoded(data, form, path, table)
                return
        yield self.read(name, table)

    def tables_of(self, window: Window | str) -> list[str]:
        """The tables that a claimed window has files of.

        Raises:
          ValueError: it is not decided.
        """
        return list(self.claim(window)["files"])

    def settled(self, window: Window | str) -> dict[str, Any]:
        """The claim of a decided window, whose files are in their places: its `form`, `digest`, and of each of `files`
        `path` (from the folder on), `digest` and `size`.

        Raises:
          ValueError: it is not decided.
        """
        return self._finished(self.claim(window))

    def form_of(self, window: Window | str) -> str:
        """The format of a claimed window's files.

        Raises:
          ValueError: it is not decided.
        """
        return str(self.claim(window)["form"])

    def paths(self, window: Window | str) -> list[str]:
        """The files of a claimed window, in the order they were moved.

        Raises:
          ValueError: it is not decided.
        """
        return [self._path(*file["path"].split("/")) for file in self.claim(window)["files"].values()]

    def claimed_since(self, seen: Collection[str]) -> list[str]:
        """The names of the decided windows that are not among `seen`, in the order of the windows."""
        names = set(self.own_since(()))
        for part in self.compacted.parts():
            names.update(self.compacted.index(part).names)
        return sorted(names.difference(seen), key=place_of)

    def own_since(self, seen: Collection[str]) -> list[str]:
        """`claimed_since` without the windows of compacted days: of a year there may be millions."""
        names = (name.removesuffix(".json") for name in atomic_files.names_in(self._path(FOLDERS[0])) if is_claim(name))
        return sorted((name for name in names if name not in seen), key=place_of)

    def count(self) -> int:
        """How many windows are decided."""
        own, parts = self.own_since(()), self.compacted.parts()
        both = sum(name in self.compacted.index(part).number for part in parts for name in own if may_hold(part, name))
        return len(own) + sum(part["windows"] for part in parts) - both

    def last(self) -> list[str]:
        """The name of the last decided window; none where there is none."""
        ends = [part["last"] for part in self.compacted.parts()]
        return sorted({*self.own_since(())[-1:], *ends}, key=place_of)[-1:]

    def before(self, window: Window, most: int | None = None) -> list[str]:
        """The names of the decided windows of the same group that end before it does, newest first; at most so many."""
        group, end = place_of(window.name)[2], window.end or 0.0
        found: set[tuple[float, float, str, int, str]] = set()

        def add(names: Collection[str]) -> None:
            found.update(at for at in map(place_of, names) if at[2] == group and at[1] < end)

        add(self.own_since(()))
        for part in sorted(self.compacted.parts(), key=lambda part: float(part["end"]), reverse=True):
            if most is not None and sum(place[1] > part["end"] for place in found) >= most:
                break
            add(self.compacted.index(part).names)
        return [name for *_, name in sorted(found, key=lambda place: place[1:4:2], reverse=True)][:most]

    def finish_all(self) -> None:
        """Puts into their places what earlier runs had claimed when they were stopped."""
        for name in atomic_files.folders_in(self._path(".staging")):
            claim = self._claim(name)
            if claim is not None:
                self._finished(claim)

    def unannounced(self) -> list[Window]:
        """The decided windows that the world has not been told of."""
        names = set(atomic_files.names_in(self._path(FOLDERS[0])))
        waiting = {name[:-5] for name in names if is_claim(name)}
        for part in self.compacted.parts():
            if part["unannounced"]:
                index = self.compacted.index(part)
                waiting.update(n for n, done in zip(index.names, index.columns["announced"], strict=True) if not done)
        places = sorted(place_of(name) for name in waiting if f"{name}.announced" not in names)
        return [Window(start, end, key, revision) for start, end, key, revision, _ in places if end < float("inf")]

    def announced(self, window: Window) -> bool:
        """Whether somebody has told the world of the claimed decision."""
        return self._is_marked(window, "announced")

    def mark_announced(self, window: Window) -> None:
        """Notes down that the world has been told."""
        atomic_files.create_exclusively(self._path(".claims", f"{window.name}.announced"), b"")

    def posted(self, window: Window) -> bool:
        """Whether the claimed decision's events have been posted."""
        return self._is_marked(window, "posted")

    def mark_posted(self, window: Window) -> None:
        """Notes down that the events have been posted."""
        atomic_files.create_exclusively(self._path(".claims", f"{window.name}.posted"), b"")

    def _is_marked(self, window: Window, mark: str) -> bool:
        if FileSystems.exists(self._path(FOLDERS[0], f"{window.name}.{mark}")):
            return True
        claim = self.compacted.claim(window.name)
        return claim is not None and bool(claim[mark])

    def _named(self, path: str, table: str) -> Claim:
        """The claim that names a file, or did."""
        name, form = path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)
        claim = self._claim(name)
        if claim is None or claim["form"] != form or table not in claim["files"]:
            raise ValueError(f"{table}: must hold what runs have claimed, got {path!r} without a claim")
        return claim

    def _path(self, *parts: str) -> str:
        return str(FileSystems.join(self.output, *parts))

    def claim(self, window: Window | str) -> Claim:
        """What was claimed of a decided window.

        Raises:
          ValueError: it is not decided.
        """
        name = window if isinstance(window, str) else window.name
        claim = self._claim(name)
        if claim is None:
            raise ValueError(f"window: must be decided, got {name!r} without a claim in {self.output!r}")
        return claim

    def _claim(self, name: str) -> Claim | None:
        path = self._path(".claims", f"{name}.json")
        for _ in range(_PATIENCE):
            try:
                return parsed(atomic_files.read(path), path)
            except FileNotFoundError:  # in this order: a claim goes after its day's record has come
                return self.compacted.claim(name)
            except json.JSONDecodeError:
                time.sleep(0.1)
        raise ValueError(f"output: must hold whole claims, got {path!r} cut short")

    def _staked(self, summary: Summary) -> tuple[Claim, bool]:
        """The claim of the window, this attempt's or that of whoever was faster; and which of the two."""
        window = summary.window
        there = [name for name in self.wanted if name != "events" or summary.told]  # mostly there is nothing to tell
        data = {name: tables.encode(summary.table(name), self.form) for name in there}
        files = {
            name: {
                "path": "/".join(part for part in (name, window.folder, f"{window.name}.{self.form}") if part),
                "digest": digest(content),
                "size": len(content),
            }
            for name, content in data.items()
        }
        whole = digest("".join(str(file["digest"]) for file in files.values()).encode())
        at = [answer.row["decided_at"] for answer in summary.answers if answer.row["decided_at"] is not None]
        claim = {
            "version": CLAIM_VERSION,
            "window": window.name,
            "staging": f"{whole[:16]}-{uuid.uuid4().hex[:16]}",
            "form": self.form,
            "replica": summary.replica,
            "digest": whole,
            "decided_at": max(at, default=None),
            "files": files,
        }
        try:
            for name, content in data.items():
                atomic_files.write(self._staged(claim, name), content)
        except FileNotFoundError:  # whoever was faster has tidied up
            return self.claim(window), False
        with atomic_files.locked(self._path(FOLDERS[0])):
            mine = self.compacted.claim(window.name) is None and atomic_files.create_exclusively(
                self._path(FOLDERS[0], f"{window.name}.json"), _json(claim)
            )
        return (claim, True) if mine else (self.claim(window), False)

    def _rows(self, claim: Claim, table: str) -> pa.Table:
        if is_compacted(claim):
            return self.compacted.rows(claim, table)
        file = claim["files"][table]
        path = self._path(*file["path"].split("/"))
        return tables.decode(as_claimed(atomic_files.read(path), file, path, table), claim["form"])

    def _staged(self, claim: Claim, table: str) -> str:
        return self._path(*staged(claim, table))

    def _finished(self, claim: Claim) -> Claim:
        """Moves what is not in its place yet, and removes what this and other attempts have left.

        Returns:
          The claim, or what it has become where it has been compacted.
        """
        if not is_compacted(claim):
            there = {name: self._path(*file["path"].split("/")) for name, file in claim["files"].items()}
            if not all(map(FileSystems.exists, there.values())):
                with atomic_files.locked(self._path(FOLDERS[0])):
                    for name, target in there.items():
                        if FileSystems.exists(target):
                            continue
                        if (now := self.compacted.claim(claim["window"])) is not None:
                            claim = now
                            break
                        atomic_files.move(self._staged(claim, name), target)
        atomic_files.remove_folder(self._path(FOLDERS[1], claim["window"]))
        return claim


def order_of(weak: bool, outliers: bool, events: bool = False) -> tuple[str, ...]:
    """The tables that are written, in their order."""
    more = {"candidates": weak, "outliers": outliers, "events": events}
    return tuple(name for name in FULL_ORDER if more.get(name, True))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
