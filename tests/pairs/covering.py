"""Rows of option values that together hold every pair of them: a greedy covering array that learns what can't be."""
import itertools
import random
from collections.abc import Iterable, Mapping

Item = tuple[str, object]  # an option and one of its values


class Covering:
    """Which pairs of items are still to be seen, and rows that show many of them at once.

    Args:
      values: each option's values; an option may also be absent from a row.
      seed: of the order in which options are tried.
    """

    def __init__(self, values: Mapping[str, Iterable[object]], seed: int = 0) -> None:
        self._values = {name: [(name, value) for value in those] for name, those in values.items()}
        self._random, self._forbidden = random.Random(seed), {}
        self.done, self.refused, self.triples = set(), set(), set()
        self.left = {
            frozenset(pair)
            for one, other in itertools.combinations(self._values.values(), 2)
            for pair in itertools.product(one, other)
        }

    def row(self, tries: int = 6) -> list[Item]:
        """Items without a refused set among them that show many pairs that are left; [] once none is."""
        if not self.left:
            return []
        return max((self._candidate() for _ in range(tries)), key=self._gain)

    def _candidate(self) -> list[Item]:
        row = list(self._random.choice(sorted(self.left, key=sorted_names)))
        names = sorted(self._values.keys() - {name for name, _ in row})
        self._random.shuffle(names)
        for name in names:
            fits = [item for item in self._values[name] if self.fits(item, row)]
            gains = [sum(frozenset((item, other)) in self.left for other in row) for item in fits]
            best = max(gains, default=0)
            if best:
                row.append(self._random.choice([item for item, gain in zip(fits, gains, strict=True) if gain == best]))
        return row

    def _gain(self, row: list[Item]) -> int:
        return len(self.left & _pairs(row))

    def fits(self, item: Item, row: Iterable[Item]) -> bool:
        """Whether a row can take the item without holding a refused set."""
        with_it = {*row, item}
        return not any(refused <= with_it for refused in self._forbidden.get(item, ()))

    def passed(self, row: Iterable[Item]) -> None:
        """All pairs of the row work."""
        shown = _pairs(row)
        self.done |= shown
        self.left -= shown

    def refuse(self, items: Iterable[Item]) -> None:
        """These do not go together: no row has them all from now on."""
        items = frozenset(items)
        for item in items:
            self._forbidden.setdefault(item, []).append(items)
        if len(items) == 1:
            self.left = {pair for pair in self.left if not items <= pair}
        if len(items) > 2:
            self.triples.add(items)
        if len(items) == 2:
            self.refused.add(items)
            self.left.discard(items)


def sorted_names(pair: Iterable[Item]) -> list[str]:
    return sorted(map(repr, pair))


def _pairs(row: Iterable[Item]) -> set[frozenset]:
    return {frozenset(pair) for pair in itertools.combinations(row, 2)}


def smallest(items: Iterable[Item], fails, hints: Iterable[str] = ()) -> list[Item]:
    """Items of which none can be left out for `fails(items)` to stay true.

    Args:
      fails: whether a list of items still fails.
      hints: options that are likely among them.
    """
    items, hints = list(items), set(hints)
    likely = [item for item in items if item[0] in hints]
    if likely and len(likely) < len(items) and fails(likely):
        items = likely
    needed: list[Item] = []
    while items and not fails(needed):  # each turn finds one more by halving
        low, high = 0, len(items)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fails(needed + items[:middle]) else (middle, high)
        if not fails(needed + items[:high]):
            return needed + items
        needed, items = [*needed, items[high - 1]], items[: high - 1]
    return needed
