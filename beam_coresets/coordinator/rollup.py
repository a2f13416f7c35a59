"""A rollup: any number of decisions, merged in bounded memory."""
from __future__ import annotations

from collections.abc import Sequence

from beam_coresets.coordinator.decision import Decision
from beam_coresets.coordinator.merge import merge, node_sampler, thinned
from beam_coresets.sampling.importance import Sampler

MAX_WAITING = 64  # decisions that are merged at a time,
FILLED = 4  # or fewer, once they have so many times the points that are kept of them


class Rollup:
    """Any number of decisions, merged in bounded memory along a binary tree, so that each point is thinned a
    logarithmic number of times.

    Args:
      sampler: of the finished coreset. seed: of all draws.
    """

    def __init__(self, sampler: Sampler, seed: int = 0) -> None:
        self._sampler, self._seed = sampler, seed
        self._waiting: list[Decision] = []
        self._levels: list[Decision | None] = []

    def add(self, decision: Decision) -> None:
        """Takes in one more.

        Raises:
          ValueError: it is of another number of shards than the ones before.
        """
        self._waiting.append(decision)
        points = sum(len(d.evidence.sample) for d in self._waiting)
        shards, sample = len(decision.recovery.trusted), decision.evidence.sample
        node = node_sampler(self._sampler, sample.dim, sample.points.itemsize)
        if len(self._waiting) >= MAX_WAITING or points > FILLED * shards * node.size:
            carry, self._waiting = self._node(self._waiting), []
            for level, other in enumerate(self._levels):
                self._levels[level] = None
                if other is None:
                    self._levels[level] = carry
                    return
                carry = self._node([other, carry])
            self._levels.append(carry)

    def result(self) -> Decision:
        """The one decision for all of them; it may go on.

        Raises:
          ValueError: nothing was taken in.
        """
        nodes = [node for node in reversed(self._levels) if node is not None]
        return thinned(merge([*nodes, *self._waiting]), self._sampler, self._seed)

    def _node(self, decisions: Sequence[Decision]) -> Decision:
        merged = merge(decisions)
        sample = merged.evidence.sample
        return thinned(merged, node_sampler(self._sampler, sample.dim, sample.points.itemsize), self._seed)
