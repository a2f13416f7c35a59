"""The options that say what clusters must keep to, and the `Constraint` that they make."""
import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from beam_coresets.solvers.constrained.constraints import READINGS, Constraint, Fair


def add_constraint_options(parser: argparse.ArgumentParser) -> None:
    """Options of a constrained clustering; any mix of them."""
    group = parser.add_argument_group("constraints on the clusters")
    add = group.add_argument
    add("--balanced", type=float, metavar="SHARE", help="weights within (1 +- SHARE) of the average, e.g. 0.2")
    add("--min_size", type=_numbers, metavar="W", help="least weight of a cluster; or one for each, comma-separated")
    add("--max_size", type=_numbers, metavar="W", help="most weight of a cluster; or one for each, comma-separated")
    add(
        "--fair", nargs="+", action="extend", type=_fair, metavar="GROUP=LOW:HIGH",
        help="the share that a group may have of each cluster, e.g. women=0.4:0.6; needs --group_column in the data",
    )  # fmt: skip
    add(
        "--label_groups", nargs="+", action="extend", type=_label, metavar="LABEL=GROUP,GROUP",
        help="the groups that each label belongs to, where they overlap (default: each label is its own group)",
    )  # fmt: skip
    add("--diversity", type=int, metavar="L", help="no label has more than 1/L of a cluster")
    add(
        "--diversity_reading", choices=READINGS, default="most",
        help="least: every label has at least 1/L of each cluster (default: most)",
    )  # fmt: skip
    add("--gamma", type=_gamma, metavar="W,W,...", help="the exact weight of each cluster")


def constraint_of(known: argparse.Namespace) -> Constraint | None:
    """The constraint of the parsed options; None if there is none.

    Raises:
      ValueError: bounds that contradict each other, or options that go with others only.
    """
    fair: Sequence[Fair] = known.fair or ()
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
        raise argparse.ArgumentTypeError(str(error)) from None


def _label(text: str) -> tuple[str, tuple[str, ...]]:
    label, equals, groups = text.rpartition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be LABEL=GROUP,GROUP such as young_women=young,women, got {text!r}")
    return label, tuple(group for group in groups.split(",") if group)
