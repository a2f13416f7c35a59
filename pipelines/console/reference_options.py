"""The options of what windows are compared with."""
import dataclasses

from beam_coresets.declared import declare
from beam_coresets.pipelines.results_folder.ownership import reading
from beam_coresets.pipelines.results_folder.stored import seconds
from beam_coresets.results.question import Question
from beam_coresets.summaries.window import WindowSummary
from beam_coresets.times import MOMENT, iso
from beam_coresets.transforms.coordinator.fixed_reference import FixedReference, window_of


@dataclasses.dataclass(frozen=True)
class ReferenceOptions:
    """A reference, and which window of it is meant."""

    reference: str | None = declare(
        None, "an output folder that windows are compared with: its last window that has centers", group="comparing"
    )
    reference_at: float | None = declare(
        None, "the reference's window that holds this time, in place of the last", spelled="with", group="comparing",
        metavar="TIME", read=seconds, pattern=MOMENT,
    )  # fmt: skip
    reference_from: float | None = declare(
        None, "in place of a window its period from here on, rolled up", spelled="with_from", group="comparing",
        metavar="TIME", read=seconds, pattern=MOMENT,
    )  # fmt: skip
    reference_to: float | None = declare(
        None, "its period up to here", spelled="with_to", group="comparing", metavar="TIME", read=seconds,
        pattern=MOMENT,
    )  # fmt: skip


def check_reference(known: ReferenceOptions) -> None:
    """Raises ValueError for options of a reference without one, and for a window and a period."""
    chosen = {"with": known.reference_at, "with_from": known.reference_from, "with_to": known.reference_to}
    for name, value in chosen.items():
        if value is not None and known.reference is None:
            raise ValueError(f"{name}: must be left out without reference, got {iso(value)}")
    if known.reference_at is not None and (known.reference_from, known.reference_to) != (None, None):
        raise ValueError(f"with: must be left out with with_from and with_to, got {iso(known.reference_at)}")


def window_meant(known: ReferenceOptions, key: str | None = None) -> WindowSummary:
    """The reference's window of a key.

    Raises:
      NoSummariesError: a ValueError: there is none. ValueError: several keys, or what can't be read.
    """
    assert known.reference is not None
    with reading([known.reference]):
        return window_of(known.reference, key, known.reference_at, known.reference_from, known.reference_to)


def reference_of(known: ReferenceOptions, question: Question, dim: int | None = None) -> FixedReference | None:
    """What a job compares its windows with; None for nothing.

    Args:
      question: the job's. dim: how many coordinates its points have, where that is known.

    Raises:
      ValueError: what can't be a reference, or contradicts itself.
    """
    check_reference(known)
    if known.reference is None:
        return None
    if question.quick or question.kind != "coreset":  # refused, without reading it
        return FixedReference.of(known.reference, question)
    return FixedReference.of(window_meant(known), question, dim)
