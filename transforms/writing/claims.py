"""Claims: of several decisions of one window and revision the first one counts, whatever stops in between.

    .staging/<window>/<attempt>/   a decision's files while nobody may see them
    .claims/<window>.json          names one attempt; who creates it has decided the window
    summaries/day=2026-11-21/...   the claimed files, moved there: what is not always written first, then coreset,
                                   centers and summaries

Whoever finds a claim whose files are not all in their places finishes the moves. So the tables' folders never hold
anything unclaimed or half-written, and whoever sees a window's row in `summaries` finds the rest.
"""
import json
import time
import uuid
from collections.abc import Collection
from typing import Any

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_coresets import table_schemas, tables
from beam_coresets.results.summary import Summary
from beam_coresets.streaming.windows import Window
from beam_coresets.summaries.claim_records import CLAIM_VERSION, as_claimed, digest, is_claim, parsed, place_of, staged
from beam_coresets.transforms.writing import atomic_files

ORDER = ("coreset", "centers", "summaries")
FULL_ORDER = ("candidates", "outliers", "events", *ORDER)
_PATIENCE = 20  # tenths of a second for the content of a claim on a drive where the name comes first


class Claims:
    """The decided windows of one output folder.

    Args:
      output: a folder on a filesystem with an atomic create; the tables become folders in it.
      form: "parquet", "avro" or "jsonl".
      wanted: which tables are written; none where a folder is only read.

    Raises:
      ValueError: an unknown format, or a filesystem on which the first decision can't be told.
    """

    def __init__(self, output: str, form: str = "parquet", wanted: Collection[str] = ORDER) -> None:
        if form not in tables.TABLE_FORMATS:
            raise ValueError(f"format: must be one of {', '.join(tables.TABLE_FORMATS)}, got {form!r}")
        if wanted:
            atomic_files.require_atomic(output)
        self.output, self.form = output, form
        self.wanted = tuple(name for name in FULL_ORDER if name in wanted)

    @classmethod
    def of(cls, folder: str) -> "Claims | None":
        """Those of a folder that is read; None where it has none, as where another program has made it."""
        if not any(is_claim(name) for name in atomic_files.names_in(str(FileSystems.join(folder, ".claims")))):
            return None
        return cls(folder, wanted=())

    def require_writable(self) -> None:
        """Checks, from here, that the output folder can be written; workers elsewhere must reach it under this name.

        Raises:
          ValueError: it can't be, or its last window is claimed in a form that this version does not read.
        """
        for name in self.claimed_since(())[-1:]:
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
        self._finish(claim)
        return mine or all(  # of another decision the summaries differ, and the rest need not be looked at
            digest(tables.encode(summary.table(name), claim["form"])) == claim["files"][name]["digest"]
            for name in reversed(claim["files"])
        )

    def decided(self, window: Window) -> bool:
        """Whether any decision of this window and revision is claimed."""
        return bool(FileSystems.exists(self._path(".claims", f"{window.name}.json")))

    def winner(self, window: Window) -> int | None:
        """Which of the coordinator's replicas has decided this window and revision; None if it is not decided."""
        claim = self._claim(window.name)
        return None if claim is None else int(claim.get("replica", 0))

    def read(self, window: Window | str, table: str) -> pa.Table:
        """A table of a claimed window, given itself or its name.

        Raises:
          ValueError: it is not decided, or its decision has no such table.
        """
        claim = self._claimed(window)
        if table not in claim["files"]:
            raise ValueError(f"table: must be one of {', '.join(claim['files'])}, got {table!r}")
        self._finish(claim)
        file = claim["files"][table]
        data = as_claimed(atomic_files.read(path := self._path(*file["path"].split("/"))), file, path, table)
        return table_schemas.typed(tables.decode(data, claim["form"]), table)

    def read_file(self, path: str, table: str) -> bytes:
        """The content of a file of a table, as it was claimed.

        Raises:
          ValueError: no claim names it, or it is not what was written.
        """
        name, form = path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)
        claim = self._claim(name)
        if claim is None or claim["form"] != form or table not in claim["files"]:
            raise ValueError(f"{table}: must hold what runs have claimed, got {path!r} without a claim")
        return as_claimed(atomic_files.read(path), claim["files"][table], path, table)

    def tables_of(self, window: Window | str) -> list[str]:
        """The tables that a claimed window has files of.

        Raises:
          ValueError: it is not decided.
        """
        return list(self._claimed(window)["files"])

    def settled(self, window: Window | str) -> dict[str, Any]:
        """The claim of a decided window, whose files are in their places: its `form`, `digest`, and of each of `files`
        `path` (from the folder on), `digest` and `size`.

        Raises:
          ValueError: it is not decided.
        """
        claim = self._claimed(window)
        self._finish(claim)
        return claim

    def form_of(self, window: Window | str) -> str:
        """The format of a claimed window's files.

        Raises:
          ValueError: it is not decided.
        """
        return str(self._claimed(window)["form"])

    def paths(self, window: Window | str) -> list[str]:
        """The files of a claimed window, in the order they were moved.

        Raises:
          ValueError: it is not decided.
        """
        return [self._path(*file["path"].split("/")) for file in self._claimed(window)["files"].values()]

    def claimed_since(self, seen: Collection[str]) -> list[str]:
        """The names of the decided windows that are not among `seen`, in the order of the windows."""
        names = (name.removesuffix(".json") for name in atomic_files.names_in(self._path(".claims")) if is_claim(name))
        return sorted((name for name in names if name not in seen), key=place_of)

    def before(self, window: Window) -> list[str]:
        """The names of the decided windows of the same group that end before it does, newest first."""
        group, end = place_of(window.name)[2], window.end or 0.0
        places = [place_of(name) for name in self.claimed_since(())]
        found = [place for place in places if place[2] == group and place[1] < end]
        return [name for *_, name in sorted(found, key=lambda place: place[1:4:2], reverse=True)]

    def finish_all(self) -> None:
        """Puts into their places what earlier runs had claimed when they were stopped."""
        for name in atomic_files.folders_in(self._path(".staging")):
            claim = self._claim(name)
            if claim is not None:
                self._finish(claim)

    def unannounced(self) -> list[Window]:
        """The decided windows that the world has not been told of."""
        names = set(atomic_files.names_in(self._path(".claims")))
        waiting = [name for name in names if name.endswith(".json") and f"{name[:-5]}.announced" not in names]
        places = sorted(place_of(name[:-5]) for name in waiting)
        return [Window(start, end, key, revision) for start, end, key, revision, _ in places if end < float("inf")]

    def announced(self, window: Window) -> bool:
        """Whether somebody has told the world of the claimed decision."""
        return bool(FileSystems.exists(self._path(".claims", f"{window.name}.announced")))

    def mark_announced(self, window: Window) -> None:
        """Notes down that the world has been told."""
        atomic_files.create_exclusively(self._path(".claims", f"{window.name}.announced"), b"")

    def posted(self, window: Window) -> bool:
        """Whether the claimed decision's events have been posted."""
        return bool(FileSystems.exists(self._path(".claims", f"{window.name}.posted")))

    def mark_posted(self, window: Window) -> None:
        """Notes down that the events have been posted."""
        atomic_files.create_exclusively(self._path(".claims", f"{window.name}.posted"), b"")

    def _path(self, *parts: str) -> str:
        return str(FileSystems.join(self.output, *parts))

    def _claimed(self, window: Window | str) -> dict[str, Any]:
        name = window if isinstance(window, str) else window.name
        claim = self._claim(name)
        if claim is None:
            raise ValueError(f"window: must be decided, got {name!r} without a claim in {self.output!r}")
        return claim

    def _claim(self, name: str) -> dict[str, Any] | None:
        path = self._path(".claims", f"{name}.json")
        for _ in range(_PATIENCE):
            try:
                return parsed(atomic_files.read(path), path)
            except FileNotFoundError:
                return None
            except json.JSONDecodeError:
                time.sleep(0.1)
        raise ValueError(f"output: must hold whole claims, got {path!r} cut short")

    def _staked(self, summary: Summary) -> tuple[dict[str, Any], bool]:
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
            return self._claimed(window), False
        if atomic_files.create_exclusively(self._path(".claims", f"{window.name}.json"), _json(claim)):
            return claim, True
        return self._claimed(window), False

    def _staged(self, claim: dict[str, Any], table: str) -> str:
        return self._path(*staged(claim, table))

    def _finish(self, claim: dict[str, Any]) -> None:
        """Moves what is not in its place yet, and removes what this and other attempts have left."""
        for name, file in claim["files"].items():
            target = self._path(*file["path"].split("/"))
            if not FileSystems.exists(target):
                atomic_files.move(self._staged(claim, name), target)
        atomic_files.remove_folder(self._path(".staging", claim["window"]))


def order_of(weak: bool, outliers: bool, events: bool = False) -> tuple[str, ...]:
    """The tables that are written, in their order."""
    more = {"candidates": weak, "outliers": outliers, "events": events}
    return tuple(name for name in FULL_ORDER if more.get(name, True))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
