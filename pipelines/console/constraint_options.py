"""The options that say what clusters must keep to, and the `Constraint` that they make."""
import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from beam_coresets.declared import NUMBER, declare
from beam_coresets.solvers.constrained.constraints import READINGS, Constraint, Fair

CONSTRAINTS = "constraints on the clusters"
_NAME = "[^ \"'\\\\=,]+"
_NUMBERS = f"{NUMBER}(,{NUMBER})*"
_SHARES = "[01]?([.][0-9]+)?(,[01]?([.][0-9]+)?)*"


def _numbers(text: str) -> float | tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, or several with commas, got {text!r}") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _gamma(text: str) -> tuple[float, ...]:
    numbers = _numbers(text)
    return numbers if isinstance(numbers, tuple) else (numbers,)


def _fair(text: str) -> Fair:
    group, _, shares = text.rpartition("=")
    low, colon, high = shares.partition(":")
    if not group or not colon:
        raise argparse.ArgumentTypeError(f"must be GROUP=LOW:HIGH such as women=0.4:0.6, got {text!r}")
    try:
        return Fair(group, _numbers(low or "0"), _numbers(high or "1"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from None


def _label(text: str) -> tuple[str, tuple[str, ...]]:
    label, equals, groups = text.rpartition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be LABEL=GROUP,GROUP such as young_women=young,women, got {text!r}")
    return label, tuple(group for group in groups.split(",") if group)


@dataclasses.dataclass(frozen=True)
class ConstraintOptions:
    """Options of a constrained clustering; any mix of them."""

    balanced: float | None = declare(
        None, "weights within (1 +- SHARE) of the average, e.g. 0.2", group=CONSTRAINTS, metavar="SHARE"
    )
    min_size: float | tuple[float, ...] | None = declare(
        None, "least weight of a cluster; or one for each, comma-separated", group=CONSTRAINTS, metavar="W",
        read=_numbers, pattern=_NUMBERS,
    )  # fmt: skip
    max_size: float | tuple[float, ...] | None = declare(
        None, "most weight of a cluster; or one for each, comma-separated", group=CONSTRAINTS, metavar="W",
        read=_numbers, pattern=_NUMBERS,
    )  # fmt: skip
    fair: tuple[Fair, ...] = declare(
        (), "the share that a group may have of each cluster, e.g. women=0.4:0.6; needs --group-column in the data",
        group=CONSTRAINTS, metavar="GROUP=LOW:HIGH", several=True, read=_fair, pattern=f"{_NAME}={_SHARES}:{_SHARES}",
    )  # fmt: skip
    label_groups: tuple[tuple[str, tuple[str, ...]], ...] = declare(
        (), "the groups that each label belongs to, where they overlap (default: each label is its own group)",
        group=CONSTRAINTS, metavar="LABEL=GROUP,GROUP", several=True, read=_label,
        pattern=f"{_NAME}={_NAME}(,{_NAME})*",
    )  # fmt: skip
    diversity: int | None = declare(None, "no label has more than 1/L of a cluster", group=CONSTRAINTS, metavar="L")
    diversity_reading: Literal["most", "least"] = declare(
        "most", "least: every label has at least 1/L of each cluster", group=CONSTRAINTS, choices=READINGS
    )
    gamma: tuple[float, ...] | None = declare(
        None, "the exact weight of each cluster", group=CONSTRAINTS, metavar="W,W,...", read=_gamma, pattern=_NUMBERS
    )
    exhaustive: bool = declare(
        False, "with a constraint: tries every choice of k candidates, for small k, and proves a factor",
        group=CONSTRAINTS,
    )  # fmt: skip


def constraint_of(known: ConstraintOptions) -> Constraint | None:
    """The constraint of the parsed options; None if there is none.

    Raises:
      ValueError: bounds that contradict each other, or options that go with others only.
    """
    fair = known.fair
    groups: Mapping[str, tuple[str, ...]] | None = dict(known.label_groups) if known.label_groups else None
    bounds = ("balanced", "min_size", "max_size", "diversity", "gamma")
    if groups is not None and not fair:
        raise ValueError(f"label_groups: must be left out without --fair, got {len(groups)} labels")
    if groups is not None and len(groups) < len(known.label_groups):
        raise ValueError("label_groups: must name each label once, got one of them twice")
    if known.diversity_reading != "most" and known.diversity is None:
        raise ValueError(f"diversity_reading: must be left out without --diversity, got {known.diversity_reading}")
    if not fair and all(getattr(known, name) is None for name in bounds):
        return None
    chosen: dict[str, Any] = {name: getattr(known, name) for name in bounds}
    return Constraint(fair=tuple(fair), groups=groups, diversity_reading=known.diversity_reading, **chosen)
