"""The recent windows of one key, for later ones to be compared with."""
from __future__ import annotations

import dataclasses

from beam_coresets import codec
from beam_coresets.comparing.drift import Reference

MOST_KEPT = 16
KEPT_APART = 3  # windows that share no time with the newest: late and revised ones are compared with them


@dataclasses.dataclass(frozen=True, eq=False)
class RecentWindow:
    """A window that was decided.

    Attributes:
      start, end: in seconds since the epoch.
      reference: what it is compared by; None where it is claimed and nobody has read it yet.
      revision: of the decision.
    """

    start: float
    end: float
    reference: Reference | None
    revision: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class RecentWindows:
    """Those that a window to come may be compared with: the last one that shares no time with it.

    A sliding window shares rows with those before it, so some are kept; of windows that all begin with the stream none
    is ever apart from another.

    Attributes:
      windows: by rising end, at most `MOST_KEPT`; of claimed ones, which take no room, there may be more.
    """

    windows: tuple[RecentWindow, ...] = ()

    def before(self, start: float) -> RecentWindow | None:
        """The last window that ends no later than this; None if none is known."""
        return max((w for w in self.windows if w.end <= start), key=lambda w: w.end, default=None)

    def without(self, window: RecentWindow) -> RecentWindows:
        """Without one of them."""
        return RecentWindows(tuple(w for w in self.windows if w is not window))

    def with_window(
        self, start: float, end: float, reference: Reference | None, revision: int = 1
    ) -> RecentWindows:
        """With one more window, or another revision of one; what no later window will ask for is left out."""
        kept = [w for w in self.windows if (w.start, w.end) != (start, end)]
        kept = sorted([*kept, RecentWindow(float(start), float(end), reference, revision)], key=lambda w: w.end)
        newest = kept[-1].start
        apart = [w for w in kept if w.end <= newest]
        return RecentWindows(tuple([*apart[-KEPT_APART:], *(w for w in kept if w.end > newest)][-MOST_KEPT:]))

    def to_bytes(self) -> bytes:
        """The whole of it, for `from_bytes`."""
        spans = [[w.start, w.end, w.revision] for w in self.windows]
        bodies = [b"" if w.reference is None else w.reference.to_bytes() for w in self.windows]
        return codec.pack_with("RecentWindows", {"spans": spans}, {}, bodies)

    @staticmethod
    @codec.decoder("RecentWindows")
    def from_bytes(data: bytes) -> RecentWindows:
        """The windows that `to_bytes` was given."""
        fields, _, bodies = codec.unpack_with(data, "RecentWindows")
        references = [Reference.from_bytes(body) if body else None for body in bodies]
        windows = zip(fields["spans"], references, strict=True)
        return RecentWindows(tuple(RecentWindow(float(a), float(b), held, int(r)) for (a, b, r), held in windows))
