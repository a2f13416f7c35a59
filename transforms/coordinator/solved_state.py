"""What is kept of a group of keys from window to window: who the centers are, what was told, what to compare with."""
import dataclasses
from collections.abc import Mapping

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
        events, arrays = self.memory.packed()
        fields = {"keys": list(self.histories), "recent": list(self.recent), "events": events}
        histories = [history.to_bytes() for history in self.histories.values()]
        recent = [windows.to_bytes() for windows in self.recent.values()]
        return codec.pack_with("Lineages", fields, arrays, [*histories, *recent])

    @staticmethod
    @codec.decoder("Lineages")
    def from_bytes(data: bytes) -> "SolvedState":
        """What `to_bytes` was given; versions before 0.3 kept the histories only."""
        fields, arrays, bodies = codec.unpack_with(data, "Lineages")
        keys, names = fields["keys"], fields.get("recent", ())
        histories = dict(zip(keys, map(CenterHistory.from_bytes, bodies[: len(keys)]), strict=True))
        recent = dict(zip(names, map(RecentWindows.from_bytes, bodies[len(keys) :]), strict=True))
        return SolvedState(histories, recent, EventMemory.unpacked(fields.get("events"), arrays))
