"""How much memory the coordinator asks its runner for, as a resource hint."""
from typing import TypeVar

import apache_beam as beam

from beam_coresets.parameters.plan import Plan

HINTED = 1 << 30  # bytes; less has any worker, and a hint makes steps of an environment of their own
Step = TypeVar("Step", bound=beam.PTransform)


def with_memory(step: Step, plan: Plan, dim: int | None = None) -> Step:
    """A step of the coordinator, which says how much memory it needs where that is much.

    Args:
      dim: of the coordinates; None: as many as the plan has names of; of one, which may be that of a column of vectors,
        it is not known, and nothing is said.
    """
    names = plan.columns or ()
    dim = len(names) if dim is None and len(names) > 1 else dim
    if dim is None or plan.coordinator_bytes(dim) < HINTED:
        return step
    hinted: Step = step.with_resource_hints(min_ram=plan.coordinator_bytes(dim) + HINTED)
    return hinted
