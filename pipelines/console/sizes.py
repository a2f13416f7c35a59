"""How many points for an error: what `plan` prints of --target 1% and --epsilon."""
import argparse
import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from beam_coresets.declared import check_values, declare, declared_as, parameters
from beam_coresets.parameters.plan import PlanParameters
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.options import DataOptions
from beam_coresets.planning.stability import stability
from beam_coresets.planning.target_size import CHANCE, Named, Pilot, random_part, size_for
from beam_coresets.points.block import PointBlock, narrow
from beam_coresets.sampling.importance import Sampler
from beam_coresets.sampling.theory_sizes import STABLE, by_theory, for_stable_data
from beam_coresets.shards.assignment import Assignment
from beam_coresets.transforms.base.bad_rows import tolerate
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.rows.scaling import StandardScale

NUMBER = "[0-9]+([.][0-9]+)?"
METHODS = ("sensitivity", "lightweight", "uniform", "rings_and_groups")


def _read_target(text: str) -> str:
    if re.fullmatch(f"{NUMBER}%?", text.strip()) is None:
        raise argparse.ArgumentTypeError(f"must be a probability such as 0.99, or an error such as 1%, got {text!r}")
    return text.strip()


@dataclasses.dataclass(frozen=True)
class SizeOptions(DataOptions):
    """What is asked of sizes."""

    target: str | None = declare(
        None, "probability with which nothing is to be lost (default: 0.99); or, in percent, the half-width that the "
        "cost's interval is to have: the points that it takes are found by trying on --input",
        read=_read_target, pattern=f"{NUMBER}%?",
    )  # fmt: skip
    k: int | None = declared_as(PlanParameters, "k", None)  # type: ignore[assignment]
    z: float = declared_as(PlanParameters, "z", 2.0)
    method: str = declared_as(
        PlanParameters, "method", METHODS[0], help="how shards choose points", choices=METHODS
    )
    epsilon: float | None = declare(
        None, "the sizes that theory names for this error; with --input also whether the data are stable",
        group="summary",
    )  # fmt: skip
    pilot_rows: int = declare(200_000, "of --input that are tried on; of more, a random part", group="data", least=1000)

    @property
    def chance(self) -> float | None:
        """The probability with which nothing is to be lost, if one is given."""
        return None if self.target is None or self.target.endswith("%") else float(self.target)

    @property
    def error(self) -> float | None:
        """The half-width that is asked for, as a share of the cost."""
        return float(self.target[:-1]) / 100 if self.target is not None and self.target.endswith("%") else None


def check(known: SizeOptions, summary: str) -> None:
    """Raises ValueError for what does not go together, or would say nothing."""
    asked = f"--target {known.target}" if known.error is not None else f"--epsilon {known.epsilon}"
    if known.error is None and known.epsilon is None:
        _leave_out(known, ("k", "z", "method", "input"), "--target PERCENT% or --epsilon")
    elif known.k is None:
        raise ValueError(f"k: must be given with {asked}, got nothing")
    elif summary != "coreset":
        raise ValueError(f"summary: must be coreset with {asked}, got {summary!r}")
    if known.error is not None and not 0 < known.error < 1:
        raise ValueError(f"target: must be between 0 % and 100 %, got {known.target}")
    if known.input is None:
        if known.error is not None:
            raise ValueError(f"input: must be given with {asked}, got nothing")
        reading = (each.name for each in parameters(DataOptions) if each.name != "input")
        _leave_out(known, (*reading, "pilot_rows"), "--input")
    check_values(known, SizeOptions)


def _leave_out(known: SizeOptions, names: Iterable[str], without: str) -> None:
    """Raises ValueError for an option that is given without what it is for."""
    chosen = set(names)
    for each in parameters(SizeOptions):
        if each.name in chosen and getattr(known, each.name) != each.default:
            raise ValueError(f"{each.name}: must come with {without}, got it alone")


def pilot_of(known: SizeOptions, chosen: Assignment, missing: int) -> Pilot:
    """The input, or a random part of it, read here as a job would read it.

    Raises:
      ValueError: what can't be read, or more rows that can't be used than --max-bad-rows.
    """
    source = ReadBlocks(known.input, options.columns_of(known), known.input_format)
    letters: list[DeadLetter] = []

    def blocks() -> Iterator[PointBlock]:
        for found in source.here():
            if isinstance(found, DeadLetter):
                letters.append(found)
            else:
                yield found

    held, rows = random_part(blocks(), known.pilot_rows)
    tolerate(letters, known.max_bad_rows)
    if known.scale == "standard":
        held = list(_scaled(held))
    sampler = Sampler(known.k or 1, known.k or 1, known.z, known.method, chosen.seed)
    return Pilot(held, rows, sampler, chosen, known.metric or "euclidean", missing)  # type: ignore[arg-type]


def _scaled(blocks: list[PointBlock]) -> Iterator[PointBlock]:
    moments = StandardScale()
    total = moments.create_accumulator()
    for block in blocks:
        total = moments.add_input(total, block)
    scale = moments.extract_output(total)
    for block in blocks:
        yield dataclasses.replace(block, points=narrow(scale.apply(block.points))) if len(block) else block


def as_json(known: SizeOptions, pilot: Pilot | None) -> dict[str, Any]:
    """What --json prints of sizes: for --target PERCENT% and for --epsilon, where they are asked for."""
    found: dict[str, Any] = {}
    if known.error is not None and pilot is not None:
        found["target"] = {"half_width": known.error, **dataclasses.asdict(size_for(pilot, known.error))}
    if known.epsilon is not None and known.k is not None:
        kinds = {"worst_case": by_theory, "stable_data": for_stable_data}
        named = {name: made(known.method, known.k, known.epsilon, known.z) for name, made in kinds.items()}
        sizes = {name: None if each is None else each.points for name, each in named.items()}
        found["theory"] = {"epsilon": known.epsilon, **sizes, "beta": None if pilot is None else stability(pilot)}
    return found


def target_lines(pilot: Pilot, error: float) -> list[str]:
    """What is said of the size for an error, and the rows of a table of what was tried."""
    found = size_for(pilot, error)
    s = pilot.assignment.shards
    part = "" if pilot.held == pilot.rows else f", tried on {pilot.held:,} of them"
    lost = f", {pilot.missing} of {s} shards missing" if pilot.missing else ""
    return [f"[bold]Points for ± {_percent(error)}[/bold] of the cost "
            f"(95 % interval; {pilot.rows:,} rows{part}{lost})",
            *_answer(pilot, found, error), ""]  # fmt: skip


def _answer(pilot: Pilot, found: Named, error: float) -> Iterator[str]:
    if found.size is None:
        yield (f"No size is enough: with all rows kept the shards that are missing leave ± {_percent(found.half)}. "
               "More replicas would.")  # fmt: skip
    elif found.everything:
        enough = any(each.size < found.size and max(each.halves) <= error for each in found.tried)
        why = "With fewer a center has fewer than 10 points." if enough else "No smaller size was found to do."
        yield f"Keep all {pilot.rows:,} rows: --coreset-size {found.size:,}, as many as a shard has. {why}"
    else:
        total = found.size * pilot.assignment.shards
        least = " (no size below 10 k is named)" if found.half < error / 2 else ""
        yield f"--coreset-size {found.size}   {found.size:,} points a shard, {total:,} in all{least}"
        yield (f"Expected: ± {_percent(found.half)}; {CHANCE:.0%} of runs keep to ± {_percent(error)}. "
               f"Around this size the half-width falls as size^-{found.exponent:.2f}.")  # fmt: skip
    if not found.checked:
        yield "Extrapolated from fewer points; a larger --pilot-rows would let it be tried."
    yield "Tried, in points a shard:"
    for each in found.tried:
        low, high = min(each.halves), max(each.halves)
        yield f"  {each.size:,}: ± {_percent(low)} to {_percent(high)}"


def theory_lines(known: SizeOptions, pilot: Pilot | None) -> list[str]:
    """What theory says of the size for --epsilon, in the worst case and for stable data."""
    assert known.epsilon is not None
    assert known.k is not None
    worst = by_theory(known.method, known.k, known.epsilon, known.z)
    lines = [
        f"[bold]Points by theory for epsilon {known.epsilon:g}[/bold], over all sets of {known.k} centers, constants "
        "taken as 1; where there are no more rows, all are kept",
        f"  worst case:  {worst.points:,} a shard ({worst.source})",
    ]
    stable = for_stable_data(known.method, known.k, known.epsilon, known.z)
    if stable is None:
        return [*lines, "  stable data: no bound is known for this method and z", ""]
    lines.append(f"  stable data: {stable.points:,} a shard ({stable.source}: beta of at least {STABLE:g})")
    if pilot is None:
        return [*lines, "  With --input, beta is estimated.", ""]
    beta = stability(pilot)
    if beta is None:
        return [*lines, "  beta has no meaning for one center.", ""]
    verdict = "stable" if beta >= STABLE else "not stable: the worst case's size holds"
    lines.append(f"  These data:  beta = {beta:.2g} (estimated: one center fewer costs {1 + beta:.3g} times as much, "
                 f"by a search on {pilot.held:,} rows), {verdict}")  # fmt: skip
    return [*lines, ""]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
