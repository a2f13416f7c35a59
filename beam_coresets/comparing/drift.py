"""What has changed from one window to another, each figure with its error bars, and whether that is more than a quiet
source gives.

Error bars are of both windows: each is a sample of its source, and its coreset a sample of it (`Seen`).

- **excess**: what the other window's centers cost on this window's rows over what its own cost, less 1. Its own fit its
  rows, which the other's have not seen: so of each fifth of the rows that counts which centers solved on the rest cost
  it. About 0 where nothing has changed, whatever k and the data are.
- **moved**: the share of the rows that would have to change clusters, of the other's, to make the windows alike: half
  the sum of the clusters' differences (total variation), less what noise adds to that.
- **shift**: how far the rows near a center are, on average, from the other's rows near it, in units of the cluster's
  spread (root mean square distance), less what noise adds.
- **drifted**: the two are not samples of one source (`beam_coresets.comparing.one_source`), but for one in 1,000 of
  quiet windows.
"""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from beam_coresets import codec
from beam_coresets.comparing.one_source import Cells, probability
from beam_coresets.comparing.seen import Seen
from beam_coresets.hashing import generator
from beam_coresets.points.coreset import Coreset
from beam_coresets.points.flats import Flats, nearest_flat
from beam_coresets.points.nearest import Metric, nearest, power_of_distance
from beam_coresets.solvers.model import Centers, Model, point_costs

FALSE_ALARMS = 1e-3  # of quiet windows
PARTS, QUICK_PARTS = 5, 3
REFERENCE_POINTS, REFERENCE_BYTES = 4000, 1 << 20  # of a window that later ones are compared with, at most
_LEVEL = 0.975

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A window that others are compared with.

    Attributes:
      seen: its sample.
      centers: (k, d). bases: (k, r, d) of subspaces, else None.
    """

    seen: Seen
    centers: Array
    bases: Array | None = None

    @staticmethod
    def of(seen: Seen, model: Model, most: int | None = None) -> Reference:
        """Of a window's sample and what was solved on it, on about `most` points."""
        return Reference(seen, np.asarray(model.centers, np.float64), model.bases).reduced(most)

    def reduced(self, most: int | None = None) -> Reference:
        """On about `most` points."""
        seen = self.seen
        if most is None:
            most = min(REFERENCE_POINTS, REFERENCE_BYTES // (seen.points.itemsize * seen.points.shape[1]))
        return Reference(seen.reduced(most), self.centers, self.bases)

    def costs(self, points: Array, z: float, metric: Metric) -> Array:
        """What each point (m,) costs under these centers."""
        if self.bases is None:
            return point_costs(points, self.centers, z, metric)[1]
        return power_of_distance(nearest_flat(points, self._flats)[1], z)

    def clusters(self, points: Array) -> Array:
        """The cluster (m,) of each point."""
        return nearest(points, self.centers)[0] if self.bases is None else nearest_flat(points, self._flats)[0]

    @property
    def _flats(self) -> Flats:
        assert self.bases is not None
        return Flats(self.centers, self.bases)

    def to_bytes(self) -> bytes:
        """The whole of it, for `from_bytes`."""
        arrays = {f.name: getattr(self.seen, f.name) for f in dataclasses.fields(Seen) if f.name != "row"}
        return codec.pack(
            "Reference", {"row": self.seen.row}, {"centers": self.centers, "bases": self.bases} | arrays
        )

    @staticmethod
    @codec.decoder("Reference")
    def from_bytes(data: bytes) -> Reference:
        """The reference that `to_bytes` was given."""
        fields, arrays = codec.unpack(data, "Reference")
        centers, bases = np.asarray(arrays.pop("centers")), arrays.pop("bases")
        return Reference(Seen(row=float(fields["row"]), **arrays), centers, bases)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, eq=False)
class Drift:
    """The change from a reference to a window.

    Attributes:
      excess, excess_low, excess_high: with a 95 % interval; NaN where the window's own centers cost nothing.
      moved, moved_low, moved_high: with a 95 % interval, from 0 to 1.
      shifts: (k,) of each of the window's centers; NaN where one of the two has no rows near it.
      probability: of so much from a quiet source, at most 1.
    """

    excess: float
    excess_low: float
    excess_high: float
    moved: float
    moved_low: float
    moved_high: float
    shifts: Array
    probability: float

    @property
    def shift(self) -> float:
        """The largest; NaN if there is none."""
        known = self.shifts[~np.isnan(self.shifts)]
        return float(known.max()) if len(known) else float("nan")

    @property
    def drifted(self) -> bool:
        return self.probability < FALSE_ALARMS


def drift(
    seen: Seen, model: Model, other: Reference, z: float = 2.0, metric: Metric = "euclidean",
    most: float = float("inf"), seed: int = 0, quick: bool = False,
) -> Drift | None:  # fmt: skip
    """Compares a window with another one; None where nothing can be compared.

    Args:
      seen, model: the window's sample, and what was solved on it.
      z, metric: of the cost.
      most: what a point costs at most, where outliers are left out.
      quick: with less of a search for the excess: for thousands of small keys.
    """
    if not len(model.centers) or not len(other.centers) or seen.points.shape[1] != other.seen.points.shape[1]:
        return None
    this, before = seen.common(other.seen), other.seen.common(seen)
    if this is None or before is None:
        return None
    own = Reference(this, np.asarray(model.centers, np.float64), model.bases)
    return Drift(
        *_excess(model, this, other, before, z, metric, most, quick),
        *_moved(this, before, other),
        _shifts(own, before),
        probability(this, before, max(len(own.centers), len(other.centers)), seed),
    )


def _excess(
    model: Model, this: Seen, other: Reference, before: Seen, z: float, metric: Metric, most: float, quick: bool
) -> tuple[float, float, float]:
    """Each row's own cost is that under centers that were solved without it: both costs are then of centers that have
    not seen it. Windows of which one tells more than the other have centers of which one is better; that is doubt."""
    its = np.minimum(other.costs(this.points, z, metric), most)
    folds, mine = _left_out(model, this, z, metric, most, quick)
    level = float(this.share @ mine)
    size = float(this.share @ (this.points.astype(np.float64) ** 2).sum(axis=1)) ** (z / 2)
    if not np.finfo(np.float32).eps * size < level < float("inf"):
        return float("nan"), float("nan"), float("nan")
    excess = float(this.share @ its) / level - 1
    apart = (its - (1 + excess) * mine) / level
    by_folds = np.bincount(folds, this.share * apart, QUICK_PARTS if quick else PARTS)
    fitted = np.minimum(Reference(this, model.centers, model.bases).costs(this.points, z, metric), most)
    seen = float(this.share @ fitted)
    doubt = max(0.0, 1 - seen / level) / 2 * max(1.0, this.effective / before.effective)
    half = _half(max(this.variance(apart), len(by_folds) * float(by_folds.var())) + doubt**2, this)
    return excess, excess - half, excess + half


def _left_out(
    model: Model, this: Seen, z: float, metric: Metric, most: float, quick: bool
) -> tuple[npt.NDArray[np.int64], Array]:
    """The fold of each row (m,), and what it costs under centers of the other folds (m,)."""
    folds = QUICK_PARTS if quick else PARTS
    fold = generator("drift folds", len(this)).permutation(len(this))[this.row_of] % folds
    plain: Model = model if model.bases is not None else Centers(np.asarray(model.centers, np.float64), z, metric)
    cost = np.empty(len(this))
    for number in range(folds):
        rest = np.where(fold == number, 0.0, this.share)
        if not rest.any():
            rest = this.share
        sample = Coreset(this.points, rest, rest, np.arange(len(this), dtype=np.uint64))
        found = plain.refit(sample, number, quick)
        mine = fold == number
        held = Coreset(this.points[mine], rest[mine], rest[mine], sample.ids[mine])
        cost[mine] = found.costs(held)[1]
    return fold, np.minimum(cost, most)


def _half(variance: float, *samples: Seen) -> float:
    degrees = max(2.0, min(each.effective for each in samples) - 1)
    return float(special.stdtrit(degrees, _LEVEL)) * variance**0.5


def _moved(this: Seen, before: Seen, other: Reference) -> tuple[float, float, float]:
    """Total variation is the mean of absolute differences, and noise alone makes some: E|N(0, s^2)| = s sqrt(2 / pi)
    for each cluster, at most as much for one that has changed. So `low` holds without it, and `high` with it."""
    cells = len(other.centers)
    sides = [Cells(each, other.clusters(each.points), cells) for each in (this, before)]
    apart = sides[0].size - sides[1].size
    deviation = np.sqrt(sum(side.variance for side in sides))
    raw, noise = float(np.abs(apart).sum()) / 2, float(deviation.sum()) / 2 * (2 / np.pi) ** 0.5
    sign = np.sign(apart)
    along = sum(float(sign @ side.covariance @ sign) for side in sides) / 4
    half = _half(max(along, float((deviation**2).sum()) / 4 * (1 - 2 / np.pi)), this, before)
    value = float(np.where(np.abs(apart) > 0, _without_noise(np.abs(apart), deviation), 0.0).sum()) / 2
    low, high = max(0.0, raw - noise - half), min(1.0, raw + half)
    return min(max(value, low), high), low, high


def _without_noise(length: Array, deviation: Array) -> Array:
    """The lengths whose noisy ones are so long on average, about: the root of the square less the variance."""
    return np.asarray(np.sqrt(np.maximum(0.0, length**2 - deviation**2)))


def _shifts(own: Reference, before: Seen) -> Array:
    this, cells = own.seen, len(own.centers)
    sides = [Cells(each, own.clusters(each.points), cells) for each in (this, before)]
    away = [
        ((each.points - own.centers[side.index]).astype(np.float64) ** 2).sum(axis=1)
        for each, side in zip((this, before), sides, strict=True)
    ]
    weight = sides[0].size
    spread = np.bincount(sides[0].index, this.share * away[0], cells) / np.where(weight > 0, weight, 1.0)
    unit = float(np.sqrt(this.share @ away[0]))
    if not unit > 0:
        return np.full(cells, np.nan)
    columns = np.full(this.points.shape[1], unit)
    a, b = (
        side.places(each.points, own.centers, columns) for each, side in zip((this, before), sides, strict=True)
    )
    square = ((a.mean - b.mean) ** 2).sum(axis=1) - a.variance - b.variance
    known = (a.rows > 0) & (b.rows > 0) & (spread > 0)
    length = np.sqrt(np.maximum(0.0, square)) * unit
    return np.where(known, length / np.sqrt(np.where(spread > 0, spread, 1.0)), np.nan)
