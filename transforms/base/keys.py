"""Keys of streaming state: a window and a group of user's keys, in one text."""
import hashlib
from collections.abc import Iterator

import numpy as np

from beam_coresets.streaming import partial_reports
from beam_coresets.streaming.partial_reports import PaneRows


def window_key(start: float, end: float, group: str = "") -> str:
    """The coordinator's key of a window and key group."""
    return f"{round(start * 1000)}/{round(end * 1000)}/{group}"


def parse_key(key: str) -> tuple[float, float, str]:
    """The inverse of `window_key`."""
    start, end, group = key.split("/", 2)
    return int(start) / 1000, int(end) / 1000, group


def key_group(key: str, groups: int) -> int:
    """The group of a key, 0 to groups - 1."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "little") % groups


def group_of(key: str, groups: int) -> str:
    """The name of a key's group."""
    return group_names(groups)[key_group(key, groups)]


def group_names(groups: int) -> list[str]:
    """The names of all groups of keys; one group has the empty name."""
    return [""] if groups == 1 else [f"{group:03d}" for group in range(groups)]


def grouped(rows: PaneRows, groups: int) -> Iterator[tuple[str, PaneRows]]:
    """The rows of each group of keys; every group, also those without rows, as each is told how far the shard is."""
    if groups == 1:
        yield "", rows
        return
    names, codes = partial_reports.key_codes(np.full(len(rows.ids), "", object) if rows.keys is None else rows.keys)
    of = np.array([key_group(name, groups) for name in names], np.int64)[codes]
    for group, name in enumerate(group_names(groups)):
        yield name, rows.take(np.flatnonzero(of == group))


def split_key(key: str) -> tuple[str, int]:
    """The inverse of `Coordinators.key`: the window's key, and which replica it is."""
    window, _, rest = key.rpartition("#")
    return window, int(rest.partition(":")[0])
