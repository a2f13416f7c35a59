"""What is kept of a group of keys from window to window: who the centers are, what was told, what to compare with."""
import dataclasses
from collections.abc import Mapping
from typing import Any

from beam_coresets import codec
from beam_coresets.comparing.recent import RecentWindows
from beam_coresets.streaming.center_tracking import CenterHistory
from beam_coresets.streaming.events import EventMemory


@dataclasses.dataclass(frozen=True)
class SolvedState:
    """What is known of each key, by its name.

    Attributes:
      histories: of its centers. recent: windows that later ones are compared with.
      memory: what there was to tell.
    """

    histories: Mapping[str, CenterHistory]
    recent: Mapping[str, RecentWindows] = dataclasses.field(default_factory=dict)
    memory: EventMemory = dataclasses.field(default_factory=EventMemory)

    def since(self, horizon: float) -> "SolvedState":
        """Without the keys whose last window ends before, in seconds since the epoch."""
        histories = {key: one for key, one in self.histories.items() if one.windows and one.windows[-1].end >= horizon}
        recent = {key: one for key, one in self.recent.items() if key in histories}
        centers = {key: one for key, one in self.memory.centers.items() if key in histories}
        return SolvedState(histories, recent, dataclasses.replace(self.memory, centers=centers))

    def to_bytes(self) -> bytes:
        """The whole of it, for `from_bytes`."""
        bodies = [history.to_bytes() for history in self.histories.values()]
        kept = [windows.to_bytes() for windows in self.recent.values()]
        events, arrays = self.memory.packed()
        fields: dict[str, Any] = {
            "keys": list(self.histories),
            "lengths": [len(body) for body in bodies],
            "recent": [[key, len(body)] for key, body in zip(self.recent, kept, strict=True)],
            "events": events,
        }
        head = codec.pack("Lineages", fields, arrays)
        return b"".join([len(head).to_bytes(8, "little"), head, *bodies, *kept])

    @staticmethod
    @codec.decoder("Lineages")
    def from_bytes(data: bytes) -> "SolvedState":
        """What `to_bytes` was given; versions before 0.3 kept the histories only."""
        at = 8 + int.from_bytes(data[:8], "little")
        fields, arrays = codec.unpack(data[8:at], "Lineages")
        histories, recent = {}, {}
        for key, length in zip(fields["keys"], fields["lengths"], strict=True):
            histories[key] = CenterHistory.from_bytes(data[at : at + length])
            at += length
        for key, length in fields.get("recent", ()):
            recent[key] = RecentWindows.from_bytes(data[at : at + length])
            at += length
        return SolvedState(histories, recent, EventMemory.unpacked(fields.get("events"), arrays))
