"""A stored window that others are compared with, in their coordinates: `--reference`, and the windows of claims."""
import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beam_coresets.comparing.drift import Reference
from beam_coresets.comparing.seen import Seen
from beam_coresets.comparing.told import compared
from beam_coresets.coordinator.decision import Decision
from beam_coresets.points.column_order import Names, listed, moved, names_of_each, places_of
from beam_coresets.points.scale import Scale
from beam_coresets.results.question import Question
from beam_coresets.results.summary import Summary
from beam_coresets.solvers.model import Centers, Model
from beam_coresets.solvers.subspaces import Subspaces
from beam_coresets.summaries.collection import SkippedFile, StoredSummaries, open_summaries
from beam_coresets.summaries.places import NoSummariesError
from beam_coresets.summaries.places import places_of as folders_of
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.times import iso

SENT_BYTES = 4 << 20  # of a reference, at most, that workers are sent with the job
_ROW_BYTES = 40  # of a point beside its coordinates


@dataclasses.dataclass(frozen=True, eq=False)
class FixedReference:
    """A stored window that others are compared with.

    Attributes:
      name: what `drift_of` says: the folder, and the window's times.
      stored: its sample and centers in the user's units.
      dtype: of its points where they are scaled.
    """

    name: str
    stored: Reference
    dtype: str

    @staticmethod
    def of(
        given: "str | WindowSummary | FixedReference | None", question: Question, dim: int | None = None
    ) -> "FixedReference | None":
        """What a job compares its windows with, read now; None where none is given.

        A large one is reduced to about `SENT_BYTES`.

        Args:
          given: an output folder, of which the last window that has centers is taken, or a window of one.
          question: the job's. dim: how many coordinates its points have, where that is known.

        Raises:
          ValueError: no such folder or window, several keys, other columns, metric, z or r, another number of
            coordinates, or a summary of another kind; or the job has keys, or no coresets.
        """
        found = given if given is None or isinstance(given, FixedReference) else FixedReference._read(given, question)
        if found is not None and dim is not None:
            found.require_dim(dim)
        return found

    @staticmethod
    def _read(given: "str | WindowSummary", question: Question) -> "FixedReference":
        shown = given if isinstance(given, str) else named(given)
        if question.quick:
            raise ValueError(f"reference: must be left out with keys, got {shown!r}")
        if question.kind != "coreset":
            raise ValueError(f"reference: must be left out with summary {question.kind}, got {shown!r}")
        window = window_of(given) if isinstance(given, str) else given
        asked = {"metric": question.metric, "z": question.sampler.z, "r": question.r}
        with _of_reference(shown):
            require_alike(window, question.columns, asked)
            width = max(1, window.centers.shape[1])
            found = FixedReference.of_window(window, question.columns, SENT_BYTES // (_ROW_BYTES + 8 * width))
        if found is None:
            raise ValueError(f"reference: must have rows and centers, got none in {named(window)!r}")
        return found

    @staticmethod
    def of_window(window: WindowSummary, columns: Names, most: int | None = None) -> "FixedReference | None":
        """A stored window with its coordinates in the order of these names; None where it has no rows or centers.

        Args:
          most: about as many points are kept; None: all.

        Raises:
          ValueError: other columns, or a summary that is none of a coreset; a damaged file.
        """
        seen = Seen.of(window.decision_for(columns))
        if seen is None or not len(window.centers):
            return None
        dtype = seen.points.dtype.str
        if window.named_scale is not None:
            plain = WindowSummary(window.identity, window.row, window.table, None)
            seen = dataclasses.replace(seen, points=plain.decision_for(columns).evidence.sample.points)
        model = model_of(window, columns, None)
        return FixedReference(named(window), Reference.of(seen, model, len(seen) if most is None else most), dtype)

    def scaled(self, scale: Scale | None) -> Reference:
        """In the coordinates that distances are measured in.

        Args:
          scale: of those that are compared with it, whatever its own was.

        Raises:
          ValueError: a scale of another number of coordinates.
        """
        if scale is None:
            return self.stored
        seen, bases = self.stored.seen, self.stored.bases
        seen = dataclasses.replace(seen, points=scale.apply(seen.points).astype(self.dtype))
        return Reference(
            seen, scale.apply(self.stored.centers), None if bases is None else scale.apply_bases(bases)
        )

    def require_dim(self, dim: int) -> None:
        """Raises ValueError unless it has so many coordinates."""
        if (own := self.stored.centers.shape[1]) != dim:
            raise ValueError(f"reference: must be of {dim} coordinates, got {own} in {self.name!r}")

    def compared(self, decision: Decision, summary: Summary, question: Question, scale: Scale | None) -> Summary:
        """The summary of one key with what has changed from this reference to it.

        Args:
          decision: that it is of. scale: what its columns are scaled by.

        Raises:
          ValueError: other coordinates, which have no names that could have said so before.
        """
        seen = Seen.of(decision)
        if seen is None:
            return summary
        self.require_dim(seen.points.shape[1])
        return compared(summary, seen, self.scaled(scale), self.name, question, question.quick)


def reference_name(given: "str | WindowSummary | FixedReference | None") -> str | None:
    """A reference as it is shown; None where there is none."""
    if given is None or isinstance(given, str):
        return given
    return named(given) if isinstance(given, WindowSummary) else given.name


def named(window: WindowSummary) -> str:
    """A window as `drift_of` names it: its folder, times and key, as far as it has them."""
    said = [window.identity.input] if window.identity.input else []
    start, end = window.identity.start, window.identity.end
    if start is not None and end is not None:
        said.append(f"{iso(start)} to {iso(end)}")
    return ", ".join([*said, *([f"key {window.key}"] if window.key else [])]) or "all"


def window_of(
    folder: str, key: str | None = None, at: float | None = None, start: float | None = None, end: float | None = None
) -> WindowSummary:
    """A window of a reference's folder: by default the last one that has centers.

    Args:
      key: whose; may be left out where there is one.
      at: a time in it. start, end: a period that is rolled up, in its place. All in seconds since the epoch.

    Raises:
      NoSummariesError: a ValueError: no such folder, window or key. ValueError: several keys or folders, a damaged
        file, or one that a later version has written.
    """
    with _of_reference(folder):
        if len(folders_of(folder)) > 1:
            raise ValueError(f"reference: must be one folder, got {folder!r}, which are several")
        windows = open_summaries(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SkippedFile)
                if start is not None or end is not None:
                    return windows.between(start, end).rollup(key)
                return _last(windows, folder, key) if at is None else windows.window(at, key)
        finally:
            for wrong in windows.skipped.values():  # another window than the one that is meant will not do
                raise ValueError(wrong)


def _last(windows: StoredSummaries, folder: str, key: str | None) -> WindowSummary:
    try:
        found = windows.latest(key)
    except NoSummariesError:
        raise NoSummariesError(f"reference: must have a window of key {key!r}, got none in {folder!r}") from None
    while not found.row["centers"]:
        earlier = windows.between(None, found.start)
        if found.start is None or not len(earlier):
            raise NoSummariesError(f"reference: must have a window with centers, got none in {folder!r}")
        windows, found = earlier, earlier.latest(key)
    return found


@contextlib.contextmanager
def _of_reference(folder: str) -> Iterator[None]:
    """Within it an error is one of the option `reference`."""
    try:
        yield
    except (ValueError, OSError) as error:
        name, _, said = str(error).partition(": ")
        kind = NoSummariesError if isinstance(error, NoSummariesError) else ValueError
        if name == "key":
            raise ValueError(f"reference: must have windows of one key, got {folder!r} with several") from error
        if said.startswith("must "):
            raise kind(f"reference: {said}") from error
        raise kind(f"reference: must be a folder that can be read, got {folder!r} ({error})") from error


def require_alike(reference: WindowSummary, columns: Names, asked: Mapping[str, Any]) -> None:
    """Checks that a window can be a reference.

    Args:
      columns: names of the coordinates of what is compared with it. asked: its metric, z and r.

    Raises:
      ValueError: it can't, with what is different.
    """
    kind = reference.row.get("summary")
    if kind not in (None, "coreset"):
        raise ValueError(f"reference: must have a summary of kind coreset, got {kind}")
    if columns is not None and reference.columns is not None and set(columns) != set(reference.columns):
        more, less = sorted({*reference.columns} - {*columns}), sorted({*columns} - {*reference.columns})
        differ = [f"without {listed(less)}"] * bool(less) + [f"with {listed(more)}"] * bool(more)
        raise ValueError(f"reference: must have the columns of what is compared with it, got {' and '.join(differ)}")
    for name, mine in asked.items():
        its = reference.row[name] or 0
        if (mine or 0) != its:
            raise ValueError(f"reference: must have {name} {mine or 0} as what is compared with it, got {its}")


def model_of(window: WindowSummary, columns: Names, scale: Scale | None) -> Model:
    """What was solved, with coordinates in the order of these names, scaled."""
    row, centers = window.row, window.centers
    dim = centers.shape[1]
    places = places_of(names_of_each(window.columns, dim), names_of_each(columns, dim), "the window")
    centers = moved(centers, places)
    centers = centers if scale is None else scale.apply(centers)
    if not row["r"]:
        return Centers(centers, row["z"], row["metric"])
    bases = np.array(window.centers_table().column("basis").to_pylist()).reshape(len(centers), int(row["r"]), -1)
    bases = moved(bases, places)
    return Subspaces(centers, bases if scale is None else scale.apply_bases(bases), bool(row["affine"]))
