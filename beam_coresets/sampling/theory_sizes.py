"""How many points the theory asks for, for an error epsilon over all sets of k centers.

The papers name orders of growth. Here every hidden constant is 1 (2^O(z) among them), logarithms are natural and at
least 1, and where a paper writes O~, one factor ln(k / epsilon) stands for its logarithms. So these are sizes to
compare methods by and to be on the safe side with: measured errors are far smaller (`benchmarks/distortion.py`), and
for everyday k and epsilon the sizes exceed most data, of which every row is then kept.

They hold for a sample drawn from the data at once. A shard's coreset is thinned on its way up a tree; what that adds
is not in them.
"""
from __future__ import annotations

import dataclasses
import math

FAILURE = 0.1  # probability of failure, where a bound depends on it
STABLE = 1.0  # the cost stability from which data count as stable
MOST_CORESET_BYTES = 16 << 20  # of a shard's coordinates: as much as a block


@dataclasses.dataclass(frozen=True)
class Size:
    """A coreset's size.

    Attributes:
      points: how many.
      source: whose bound, and what it bounds.
    """

    points: int
    source: str


def by_theory(method: str, k: int, epsilon: float, z: float = 2.0, dim: int | None = None) -> Size:
    """The size that theory names for `method`.

    - rings_and_groups: min(k^((2z + 2) / (z + 2)) epsilon^-2, k epsilon^(-z - 2)) ln^2(k / epsilon) ln^5(1 / epsilon):
      Huang, Li and Wu, *On Optimal Coreset Construction for Euclidean (k, z)-Clustering*, Theorem B.1 (Theorem 1.4
      without the logarithms), with probability 0.9; and the bound of Cohen-Addad, Larsen, Saulpic and Schwiegelshohn
      (STOC 2022) for the same construction, from their Table 1, which is the smaller one from k = epsilon^(-z - 2) on;
      its logarithms are taken to be the same. A group's share is `group_size`.
    - sensitivity, z = 2: k epsilon^-2 min(sqrt(k), epsilon^-2): Bansal, Cohen-Addad, Prabhu, Saulpic and
      Schwiegelshohn, *Sensitivity Sampling for k-Means* (FOCS 2024). Other z: k min(epsilon^(-2z - 2), 2^(2z)
      epsilon^-4): Huang and Vishnoi, *Coresets for Clustering in Euclidean Spaces* (STOC 2020), for two rounds of
      importance sampling where ours has one.
    - lightweight, z = 2: (d k ln k + ln(1 / 0.1)) epsilon^-2: Bachem, Lucic and Krause (KDD 2018), Theorem 2. Its
      error is epsilon / 2 of the cost and epsilon / 2 of the cost to the mean. Without `dim`, d is epsilon^-2
      ln(k / epsilon), which data can be brought to (Makarychev, Makarychev and Razenshteyn, STOC 2019).

    Args:
      dim: coordinates, where they are known and few.

    Raises:
      ValueError: epsilon is not between 0 and 1, k or z below 1, or there is no bound: uniform samples miss what is
        small and far away whatever their size, unless the data are known to have neither.
    """
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon: must be between 0 and 1, got {epsilon}")
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    if not 1 <= z < math.inf:
        raise ValueError(f"z: must be finite and at least 1, got {z}")
    try:
        points, source = _bound(method, k, epsilon, z, dim)
    except OverflowError:
        points, source = math.inf, ""
    if points >= 2**62:
        raise ValueError(f"epsilon: must be large enough for a size that can be counted, got {epsilon:g}")
    return Size(max(k, math.ceil(points)), source)


def for_stable_data(method: str, k: int, epsilon: float, z: float = 2.0) -> Size | None:
    """The size that theory names for data that fall into k clusters; None for methods and z of which none is known.

    For sensitivity and z = 2 it is k epsilon^-2 (Bansal et al., FOCS 2024), where one center fewer costs (1 + beta)
    times as much or more, for a beta of at least some constant, taken as `STABLE`. The sampler need not know beta.

    Raises:
      ValueError: as `by_theory` does.
    """
    worst = by_theory(method, k, epsilon, z)
    if method != "sensitivity" or z != 2:
        return None
    points = math.ceil(k * epsilon**-2 * _log(k / epsilon))
    return Size(min(worst.points, max(k, points)), f"{worst.source}, for stable data")


def _bound(method: str, k: int, epsilon: float, z: float, dim: int | None) -> tuple[float, str]:
    logs = _log(k / epsilon)
    if method == "rings_and_groups":
        source = "Huang, Li and Wu, Theorem B.1" if _of_powers(k, epsilon, z) else "Cohen-Addad et al., STOC 2022"
        return group_size(k, epsilon, z) * logs * _log(1 / epsilon), source
    if method == "sensitivity" and z == 2:
        return k * epsilon**-2 * min(math.sqrt(k), epsilon**-2) * logs, "Bansal et al., FOCS 2024"
    if method == "sensitivity":
        return k * min(epsilon ** (-2 * z - 2), 2 ** (2 * z) * epsilon**-4) * logs, "Huang and Vishnoi, STOC 2020"
    if method == "lightweight" and z == 2:
        d = epsilon**-2 * logs if dim is None else min(dim, epsilon**-2 * logs)
        return (d * k * _log(k) - math.log(FAILURE)) * epsilon**-2, "Bachem, Lucic and Krause, KDD 2018, Theorem 2"
    if method == "lightweight":
        raise ValueError(f"epsilon: must be left out with method lightweight unless z is 2, got z = {z:g}")
    raise ValueError(f"epsilon: must be left out with method {method}, of which no size is known, got {epsilon:g}")


def group_size(k: int, epsilon: float, z: float = 2.0) -> float:
    """The draws from each group of `rings_and_groups`: min(k^((2z + 2) / (z + 2)) epsilon^-2, k epsilon^(-z - 2))
    ln(k / epsilon) ln^4(1 / epsilon), Theorem B.1's where the first is the smaller."""
    power = k ** ((2 * z + 2) / (z + 2)) * epsilon**-2 if _of_powers(k, epsilon, z) else k * epsilon ** (-z - 2)
    return float(power * _log(k / epsilon) * _log(1 / epsilon) ** 4)


def _of_powers(k: int, epsilon: float, z: float) -> bool:
    """Whether k^((2z + 2) / (z + 2)) epsilon^-2 is at most k epsilon^(-z - 2)."""
    return bool(k <= epsilon ** (-z - 2))


def fitting(points: int, k: int, dim: int, itemsize: int = 4, most_bytes: int = MOST_CORESET_BYTES) -> int:
    """As many points as asked for, or as have so many bytes of coordinates; at least k."""
    return max(k, min(points, most_bytes // max(1, dim * itemsize)))


def _log(x: float) -> float:
    return max(1.0, math.log(x))
