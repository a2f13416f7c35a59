"""Centers with an identity: which center of a window continues which one of the window before.

The points of the window's coreset are labelled with the nearest old and the nearest new center; what weight an old and
a new one have in common says who continues whom. Only points within `REACH` times an old cluster's radius count as its
own, or a cluster born far from all others would look like a split of the nearest. A new center takes, in this order,
the id of

1. an old center, in the one-to-one matching with the most weight in common, at least half of the smaller one's;
2. one that an earlier revision of the same window gave birth to, likewise;
3. one that had vanished, if it is no farther away than the cluster's radius: it was silent for some windows;
4. an old center whose place is empty now, by all the points that are nearest to it: it has jumped;

and else a fresh one. An old center that is left has merged into the center that took more than half of its points, or
has vanished.
"""
from __future__ import annotations

import base64
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from beam_coresets import codec
from beam_coresets.hashing import derive_seed
from beam_coresets.points.nearest import Metric, nearest

HISTORY = 8  # windows remembered
REACH = 3.0  # radii within which a point belongs to an old cluster
SHARED = 0.5  # of the smaller mass: what two centers must have in common to be one
ALIVE = 0.1  # of its former share of the weight: with less an old center's place is empty

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Ended:
    """A center of the window before that none continues.

    Attributes:
      id: its own. born: end of the window in which it first appeared, NaN where unknown.
      merged_into: the id of the center that took most of its points; None if it has vanished.
      coordinates: where it was last.
    """

    id: str
    born: float
    merged_into: str | None
    coordinates: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Identities:
    """Who the centers of a window are, in their order.

    Attributes:
      ids: of each center. born: end of the window in which the id first appeared.
      split_from: for an id that appears now, the one that most of its points belonged to; else None.
      ended: the centers of the window before that end here.
    """

    ids: tuple[str, ...] = ()
    born: tuple[float, ...] = ()
    split_from: tuple[str | None, ...] = ()
    ended: tuple[Ended, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class WindowCenters:
    """The centers of one window.

    Attributes:
      end: of the window.
      centers: (k, d) float64. radius: (k,) root mean square distance of their points. share: (k,) of the weight. Both
        are NaN where unknown.
      ids: of each. born: (k,), NaN where unknown.
      merged: ids that ended here by merging: they don't come back.
    """

    end: float
    centers: Array
    radius: Array
    share: Array
    ids: tuple[str, ...]
    born: Array
    merged: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class CenterHistory:
    """The centers of recent windows of one key.

    A late or revised window is matched against the last one before it, whatever has been decided since; so the order in
    which windows are decided changes the history, never an id that has been given.

    Attributes:
      key: whose they are: part of every fresh id.
      windows: by rising end, at most `HISTORY`.
    """

    key: str = ""
    windows: tuple[WindowCenters, ...] = ()

    @staticmethod
    def starting_from(centers: Array, ids: Sequence[str] | None = None, key: str = "") -> CenterHistory:
        """A history that begins with these centers (m, d), named "0", "1", ... unless `ids` says otherwise.

        Raises:
          ValueError: no centers, values that are not finite, or ids that are not one for each and different.
        """
        centers = np.array(centers, np.float64)
        if centers.ndim != 2 or not centers.size or not np.isfinite(centers).all():
            raise ValueError(f"init_centers: must be finite, (centers, columns), got shape {centers.shape}")
        names = tuple(str(i) for i in (range(len(centers)) if ids is None else ids))
        if len(set(names)) != len(centers):
            raise ValueError(f"ids: must be {len(centers)} different ones, got {len(set(names))}")
        unknown = np.full(len(centers), np.nan)
        return CenterHistory(key, (WindowCenters(-np.inf, centers, unknown, unknown, names, unknown),))

    @property
    def dim(self) -> int | None:
        """Coordinates of its centers; None without any."""
        return self.windows[-1].centers.shape[1] if self.windows else None

    def start_from(self, window_end: float) -> Array | None:
        """The centers (k, d) of the last window before this one, to start solving from; None if none is known."""
        before = self._before(window_end)
        return None if before is None else before.centers

    def matched(
        self, window_end: float, centers: Array, points: Array, weights: Array, metric: Metric = "euclidean"
    ) -> tuple[Identities, CenterHistory]:
        """Names the centers of a window; a window without centers says nothing and changes nothing.

        Args:
          window_end: seconds since the epoch.
          centers: (k, d), no two alike. points: (m, d) the coreset they were solved on. weights: (m,) theirs.
          metric: for "cosine" points are of unit length, and distances are taken between unit vectors.

        Returns:
          who they are, and the history that knows them.
        """
        centers = np.asarray(centers, np.float64)
        if not len(centers):
            return Identities(), self
        window = _Window.of(directions(centers, metric), points, np.asarray(weights, np.float64), window_end)
        before, earlier = self._before(window_end), [g for g in self.windows if g.end == window_end]
        names = _Names(window, self.key)
        links = None if before is None else _Links.of(before, window, metric)
        if links is not None:
            names.take(links.old, links.pairs(links.near, links.alive, names.free))
        for revised in earlier:
            again, known = _Links.of(revised, window, metric), set() if before is None else set(before.ids)
            births = np.array([name not in known for name in revised.ids])
            names.take(revised, again.pairs(again.near, again.alive & births, names.free))
        names.take_back(self._silent(before, window_end), metric)
        if links is not None:
            names.take(links.old, links.pairs(links.all, ~links.alive & ~names.taken(links.old), names.free))
        identities = names.identities(links)
        return identities, self.with_window(names.window_centers(centers, identities))

    def _before(self, window_end: float) -> WindowCenters | None:
        return max((g for g in self.windows if g.end < window_end), key=lambda g: g.end, default=None)

    def _silent(self, before: WindowCenters | None, window_end: float) -> list[tuple[WindowCenters, int]]:
        """The last appearance of each id that had vanished before this window, latest first."""
        gone: set[str] = set() if before is None else set(before.ids)
        found = []
        for one in reversed([g for g in self.windows if g.end < window_end]):
            found += [(one, i) for i, name in enumerate(one.ids) if name not in gone]
            gone |= {*one.ids, *one.merged}
        return found

    def with_window(self, window: WindowCenters) -> CenterHistory:
        """The history with the centers of one more window, or with others in place of what it knew of it."""
        kept = [g for g in self.windows if g.end != window.end] + [window]
        return dataclasses.replace(self, windows=tuple(sorted(kept, key=lambda g: g.end)[-HISTORY:]))

    def to_bytes(self) -> bytes:
        """The whole of it, for `from_bytes`."""
        fields = {
            "key": self.key,
            "ids": [list(g.ids) for g in self.windows],
            "merged": [list(g.merged) for g in self.windows],
        }
        arrays: dict[str, Array | None] = {"ends": np.array([g.end for g in self.windows], np.float64)}
        for i, g in enumerate(self.windows):
            arrays |= {f"{i}_{name}": getattr(g, name) for name in _ARRAYS}
        return codec.pack(_STORED_AS, fields, arrays)

    @staticmethod
    @codec.decoder("CenterHistory")
    def from_bytes(data: bytes) -> CenterHistory:
        """The history that `to_bytes` was given."""
        fields, arrays = codec.unpack(data, _STORED_AS)
        windows = []
        for i, end in enumerate(np.asarray(arrays["ends"]).tolist()):
            held = {name: np.asarray(arrays[f"{i}_{name}"]) for name in _ARRAYS}
            windows.append(WindowCenters(end, ids=tuple(fields["ids"][i]), merged=tuple(fields["merged"][i]), **held))
        return CenterHistory(fields["key"], tuple(windows))


_STORED_AS = "Lineage"  # in checkpoints, which later versions read
_ARRAYS = ("centers", "radius", "share", "born")


def directions(centers: Array, metric: Metric) -> Array:
    """Centers (k, d) as distances are taken to them: of unit length for "cosine"."""
    if metric != "cosine":
        return centers
    return centers / np.maximum(np.linalg.norm(centers, axis=1, keepdims=True), 1e-300)


@dataclasses.dataclass(frozen=True, eq=False)
class _Window:
    """The new centers (k, d), their points and weights, the center (m,) of each, and (k,) mass and radius."""

    end: float
    centers: Array
    points: Array
    weights: Array
    index: Array
    mass: Array
    radius: Array

    @staticmethod
    def of(centers: Array, points: Array, weights: Array, end: float) -> _Window:
        index, dist_sq = nearest(points, centers)
        mass = np.bincount(index, weights, len(centers))
        moment = np.bincount(index, weights * dist_sq, len(centers))
        radius = np.sqrt(np.divide(moment, mass, out=np.full(len(mass), np.nan), where=mass > 0))
        return _Window(end, centers, points, weights, index, mass, radius)


@dataclasses.dataclass(frozen=True, eq=False)
class _Links:
    """What old and new centers have in common.

    Attributes:
      all: (old, new) weight of the points nearest to both. near: (old, new) of those within reach of the old one.
      alive: (old,) bool: enough points are there still. mass: (new,).
    """

    old: WindowCenters
    all: Array
    near: Array
    alive: npt.NDArray[np.bool_]
    mass: Array

    @staticmethod
    def of(old: WindowCenters, window: _Window, metric: Metric) -> _Links:
        index, dist_sq = nearest(window.points, directions(old.centers, metric))
        shape = (len(old.ids), len(window.centers))
        cell, cells = index.astype(np.int64) * shape[1] + window.index, shape[0] * shape[1]
        reach = np.where(np.isnan(old.radius), np.inf, REACH * old.radius)[index]
        everything = np.bincount(cell, window.weights, cells).reshape(shape)
        near = np.bincount(cell, window.weights * (dist_sq <= reach**2), cells).reshape(shape)
        mass = near.sum(axis=1)
        alive = (mass > 0) & (mass >= ALIVE * np.nan_to_num(old.share) * window.mass.sum())
        return _Links(old, everything, near, alive, window.mass)

    def pairs(self, shared: Array, old: Array, new: Array) -> list[tuple[int, int]]:
        """The one-to-one matching of some old and some new centers, (old,) and (new,) bool, with the most in common."""
        smaller = np.minimum(shared.sum(axis=1)[:, None], self.mass)
        enough = (shared > 0) & (shared >= SHARED * smaller) & old[:, None] & new
        found = linear_sum_assignment(np.where(enough, shared, 0.0), maximize=True)
        return [(i, j) for i, j in zip(*(side.tolist() for side in found), strict=True) if enough[i, j]]


class _Names:
    """The ids of a window's centers while they are being found."""

    def __init__(self, window: _Window, key: str) -> None:
        self._window, self._key = window, key
        self._ids: list[str | None] = [None] * len(window.centers)
        self._born = np.full(len(window.centers), window.end)

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        return np.array([name is None for name in self._ids])

    def taken(self, old: WindowCenters) -> npt.NDArray[np.bool_]:
        """Which of these centers' ids have been given, (old,) bool."""
        return np.array([name in self._ids for name in old.ids])

    def take(self, old: WindowCenters, pairs: Sequence[tuple[int, int]]) -> None:
        for i, j in pairs:
            if old.ids[i] not in self._ids:
                self._ids[j] = old.ids[i]
                self._born[j] = self._window.end if np.isnan(old.born[i]) else old.born[i]

    def take_back(self, silent: Sequence[tuple[WindowCenters, int]], metric: Metric) -> None:
        """The ids of vanished centers for the ones that are where they were, nearest first."""
        close = []
        for age, (old, i) in enumerate(silent):
            place = directions(old.centers[i : i + 1], metric)
            distance = np.linalg.norm(self._window.centers - place, axis=1)
            radius = np.fmax(old.radius[i], self._window.radius)
            close += [(float(distance[j]), age, j) for j in np.flatnonzero(self.free & (distance <= radius)).tolist()]
        for _, age, j in sorted(close):
            old, i = silent[age]
            if self._ids[j] is None:
                self.take(old, [(i, j)])

    def identities(self, links: _Links | None) -> Identities:
        """With fresh ids for those that have none, and what became of the old ones."""
        fresh = np.flatnonzero(self.free).tolist()
        for j in fresh:
            self._ids[j] = self._fresh(j)
        ids = [str(name) for name in self._ids]
        split: list[str | None] = [None] * len(ids)
        ended = []
        if links is not None:
            for j in fresh:
                parent = int(links.near[:, j].argmax())
                if links.near[parent, j] > links.mass[j] / 2:
                    split[j] = links.old.ids[parent]
            for i in np.flatnonzero(~self.taken(links.old)).tolist():
                heir, mass = int(links.near[i].argmax()), links.near[i].sum()
                into = ids[heir] if links.alive[i] and links.near[i, heir] > mass / 2 else None
                born, place = float(links.old.born[i]), tuple(links.old.centers[i].tolist())
                ended.append(Ended(links.old.ids[i], born, into, place))
        return Identities(tuple(ids), tuple(self._born.tolist()), tuple(split), tuple(ended))

    def window_centers(self, centers: Array, identities: Identities) -> WindowCenters:
        window = self._window
        total = window.mass.sum()
        share = window.mass / total if total > 0 else np.full(len(window.mass), np.nan)
        merged = tuple(e.id for e in identities.ended if e.merged_into is not None)
        born = np.array(identities.born, np.float64)
        return WindowCenters(window.end, centers, window.radius, share, identities.ids, born, merged)

    def _fresh(self, j: int) -> str:
        """12 letters and digits, from 60 bits of a hash: where and when a center was first seen is its name."""
        center = (self._window.centers[j] + 0.0).tobytes()  # one zero
        for attempt in itertools.count():
            digest = derive_seed("center", self._key, float(self._window.end), center, attempt)
            name = base64.b32encode(digest.to_bytes(8, "big")).decode().lower()[:12]
            if name not in self._ids:
                return name
        raise AssertionError("unreachable")
