"""`beam-coresets plan`: shards and stragglers in; schemes side by side, what they cost and what they buy, out."""
from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from beam_coresets.declared import declare
from beam_coresets.pipelines.console import options, sizes
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.waiting import Awaited
from beam_coresets.planning import planner, single_multiplier
from beam_coresets.planning.target_size import Pilot
from beam_coresets.shards import local_centers, pca
from beam_coresets.shards.assignment import SCHEMES, Assignment, default_buckets
from beam_coresets.shards.report import SUMMARY_KINDS

WIDTH = 100
MAX_ROWS = 8
MAX_SHARDS = 20_000  # the schemes are laid out in memory
SIMULATED_SHARDS = (100, 1_000, 10_000)
RELAXATION = 0.1  # the default slack of --summary pca


@dataclasses.dataclass(frozen=True)
class PlanOptions(sizes.SizeOptions, TerminalOptions):
    """The options of `plan`."""

    shards: int = declare(10, "how many shards read the data")
    tolerate: int | None = declare(None, "lose nothing whichever this many shards straggle (default: 2, or shards - 1)")
    replication: int | None = declare(None, "how many shards hold each bucket (default: what the wishes need)")
    scheme: str | None = declare(None, "the scheme to plan for (default: chosen)", choices=SCHEMES)
    straggle_probability: float | None = declare(
        None, "probability that a shard straggles, independently of the others"
    )
    summary: str = declare(
        "coreset", "what shards send; local_centers and pca have one multiplier a shard: Property 1",
        choices=SUMMARY_KINDS,
    )  # fmt: skip
    delta: float = declare(0.5, "Property 1's slack")
    domains: str | None = declare(
        None, "failure domains: how many (shard i is in domain i mod n), or one number a shard: 0,0,1,1"
    )
    buckets: int | None = declare(None, "how many buckets the ids are hashed to (default: 1024, more for many shards)")
    deadline: float = declare(8.0, "for the simulation, in median shard times")
    seed: int = declare(0, "of the simulation")


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets plan`; returns the exit code: 0, or 2 for options that cannot work (said on stderr)."""
    try:
        return options.run_alone(argv, "plan", PlanOptions, __doc__ or "", run)
    except SystemExit as stop:
        return int(stop.code or 0)


def run(known: PlanOptions, console: Terminal) -> int:
    """Plans and shows; returns the exit code.

    Raises:
      ValueError: something that can't work.
    """
    try:
        with Awaited(console.aside, "choosing a scheme") as waiting:
            chosen = choose(known)
            waiting.tell(f"laying out {chosen.shards:,} shards, and simulating them")
            found = as_json(chosen, known) if known.json else {}
            tables = [] if known.json else _tables(chosen, known)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if known.json:
        console.answer("plan", **found)
        return 0
    console.width = WIDTH
    for item in tables:
        console.print(item, highlight=False)
    return 0


def as_json(chosen: Assignment, known: PlanOptions) -> dict[str, Any]:
    """What --json prints: the scheme, and of it and those beside it load, losses and what one number a shard makes."""
    p, load = known.straggle_probability, chosen.load()
    schemes = planner.side_by_side(chosen)
    t, likely = _straggling(chosen, known)
    found: dict[str, Any] = {
        "scheme": chosen.kind, "shards": chosen.shards, "replication": chosen.replication, "buckets": chosen.buckets,
        "tolerates": chosen.tolerates(), "tolerates_domains": planner.tolerates_domains(chosen),
        "load": {"mean": load.mean(), "least": load.min(), "most": load.max(), "total": load.sum()},
        "no_loss_probability": None if p is None else planner.no_loss_probability(chosen, p),
        "losses": [{"scheme": scheme.kind, **dataclasses.asdict(planner.loss(scheme, stragglers))}
                   for stragglers in _shown_stragglers(chosen) for scheme in schemes],
        "theorem6_replication": planner.theorem6_replication(known.delta, chosen.buckets, likely),
        "waiting": [dataclasses.asdict(row) for row in _waiting(chosen, known)],
    }  # fmt: skip
    if known.summary != "coreset":
        one = [(scheme.kind, single_multiplier.property1(scheme, t, known.delta, likely)) for scheme in schemes]
        found["property1"] = [{"scheme": kind, **dataclasses.asdict(each)} for kind, each in one]
    return {**found, **sizes.as_json(known, _pilot(chosen, known))}


def choose(known: PlanOptions) -> Assignment:
    """The scheme that the options ask for. Raises ValueError if none can do it."""
    if not 1 <= known.shards <= MAX_SHARDS:
        raise ValueError(f"shards: must be from 1 to {MAX_SHARDS}, got {known.shards}")
    sizes.check(known, known.summary)
    if known.chance is not None and known.straggle_probability is None:
        raise ValueError(f"target: must come with --straggle-probability, got {known.target} alone")
    if known.chance is not None and not 0 < known.chance < 1:
        raise ValueError(f"target: must be between 0 and 1, got {known.target}")
    domains = parse_domains(known.domains, known.shards)
    tolerate = known.tolerate
    if tolerate is None and known.straggle_probability is None:
        tolerate = min(2, known.shards - 1)
    scheme = None
    target = 0.99 if known.chance is None else known.chance
    wishes = (tolerate, known.straggle_probability, target, known.buckets, known.seed, domains)
    if known.summary != "coreset" and known.replication is None:
        kinds = ("fractional", "cyclic") if known.scheme is None else (known.scheme,)
        scheme = single_multiplier.choose_for_one_number(known.shards, known.delta, *wishes, kinds)
    elif known.replication is None or known.tolerate is not None:
        scheme = planner.choose(known.shards, *wishes)
    replication = known.replication
    if replication is None:
        assert scheme is not None
        replication = scheme.replication
    kind = known.scheme or (scheme.kind if scheme else "cyclic")
    if known.tolerate is not None and replication <= known.tolerate:
        raise ValueError(f"replication: must be at least {known.tolerate + 1} (tolerate + 1), got {replication}")
    buckets = known.buckets
    if buckets is None:
        buckets = default_buckets(known.shards, max(1, replication))
    return Assignment(known.shards, replication, kind, buckets, known.seed, domains)


def parse_domains(text: str | None, shards: int) -> tuple[int, ...] | None:
    """Failure domains from `n` or `a,b,c,...`. Raises ValueError if they are not integers."""
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"domains: must be integers separated by commas, got {text!r}") from None
    if len(numbers) > 1:
        return numbers
    if numbers[0] < 1:
        raise ValueError(f"domains: must be at least 1, got {numbers[0]}")
    return tuple(i % numbers[0] for i in range(shards))


def _tables(chosen: Assignment, known: PlanOptions) -> list[RenderableType]:
    schemes = [*planner.side_by_side(chosen)]
    one_number = [] if known.summary == "coreset" else [_property_table(schemes, chosen, known)]
    return [
        _headline(chosen, known),
        *_sizes(chosen, known),
        *one_number,
        _load_table(schemes, known.straggle_probability),
        _loss_table(schemes),
        _theorem(chosen, known),
        _waiting_table(chosen, known),
    ]


def _sizes(chosen: Assignment, known: PlanOptions) -> list[str]:
    """How many points for --target and --epsilon; shards are missing if it is said how many may straggle."""
    pilot, lines = _pilot(chosen, known), []
    if known.error is not None and pilot is not None:
        lines += sizes.target_lines(pilot, known.error)
    if known.epsilon is not None:
        lines += sizes.theory_lines(known, pilot)
    return lines


def _pilot(chosen: Assignment, known: PlanOptions) -> Pilot | None:
    """What sizes are tried on."""
    told = known.tolerate is not None or known.straggle_probability is not None
    missing = _straggling(chosen, known)[0] if told else 0
    return None if known.input is None else sizes.pilot_of(known, chosen, missing)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _coverage(share: float) -> str:
    """Rounded down: 100 % means all of it."""
    return f"{math.floor(1e6 * share) / 1e4:g} %"


def _headline(chosen: Assignment, known: PlanOptions) -> str:
    t, load = chosen.tolerates(), chosen.load()
    kept = "Some buckets have no holder: data is lost even if all shards answer."
    if t >= 0:
        kept = f"Any {t} of {chosen.shards} shards may straggle and nothing is lost." if t else "Stragglers lose data."
    summary = "" if known.summary == "coreset" else f"--summary {known.summary} --recovery lp "
    lines = [
        f"\n[bold]Plan: {summary}--scheme {chosen.kind} --shards {chosen.shards} "
        f"--replication {chosen.replication}[/bold]"
        f" ({chosen.buckets} buckets). {kept}",
        f"A shard reads {_percent(load.mean())} of the data on average, all together {load.sum():.3g} times the data.",
    ]
    p, target = known.straggle_probability, known.chance
    safe = None if p is None else planner.no_loss_probability(chosen, p)
    if safe is not None:
        verdict = "" if target is None else f", {'as' if safe >= target else 'less than'} asked ({target:g})"
        lines.append(f"If each straggles with probability {p:g}, nothing is lost with probability {safe:.6g}{verdict}.")
    return "\n".join(lines) + "\n"


def _table(title: str, note: str, rows: Sequence[Sequence[str]], *columns: str) -> Group:
    """Rows under a title and a note; where the first column changes, a new section begins."""
    table = Table(box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right")
    last = ""
    grouped = len({row[0] for row in rows}) < len(rows)
    for row, following in itertools.zip_longest(rows, rows[1:]):
        ends = grouped and following is not None and following[0] != row[0]
        table.add_row("" if row[0] == last else row[0], *row[1:], end_section=ends)
        last = row[0]
    return Group(f"[bold]{title}[/bold]", note, table)


def _load_table(schemes: list[Assignment], p: float | None) -> Group:
    rows = []
    for scheme in schemes:
        holders, load = scheme.matrix().sum(axis=0), scheme.load()
        spread = f"{holders.min()} to {holders.max()}" if holders.min() < holders.max() else str(holders.min())
        domains = planner.tolerates_domains(scheme)
        safe = None if p is None else planner.no_loss_probability(scheme, p)
        row = [scheme.kind, *map(_percent, (load.mean(), load.min(), load.max())), spread, str(scheme.tolerates())]
        rows.append([*row, "-" if domains is None else str(domains), "-" if safe is None else f"{safe:.6g}"])
    return _table(
        "Load and holders",
        "Load: share of the data that a shard reads. Any shards, any domains: how many may fail, whichever they are, "
        "with nothing lost (-1: data is lost even if all answer). No loss: probability of losing nothing if shards "
        f"straggle independently with probability {'(not given)' if p is None else format(p, 'g')}; - without formula.",
        rows,
        *("scheme", "mean load", "least", "most", "holders", "any shards", "any domains", "no loss"),
    )


def _shown_stragglers(chosen: Assignment) -> list[int]:
    """Every t up to l + 1, where losses have begun; if those are many, evenly spaced ones and the last three."""
    last = min(chosen.shards - 1, chosen.replication + 1)
    every = range(1, last + 1)
    if len(every) <= MAX_ROWS:
        return [*every]
    step = -(-last // (MAX_ROWS - 3))
    return sorted({*every[step - 1 :: step], *every[-3:]})


def _loss_table(schemes: list[Assignment]) -> Group:
    rows = []
    for t in _shown_stragglers(schemes[0]):
        for scheme in schemes:
            found = planner.loss(scheme, t)
            worst = _percent(found.worst) if found.worst_exact else "~ " + _percent(found.worst)
            delta = "-" if found.delta is None else f"{found.delta:.2f}"
            rows.append([str(t), scheme.kind, _percent(found.expected), worst, _percent(found.spread), delta])
    return _table(
        "Share of the data lost to t stragglers",
        "Average and spread (standard deviation) over straggler sets; ~ marks a worst case that was searched, not "
        "proved. delta: Property 1's slack with the best single number a shard, the largest in a few sampled sets (- "
        "where too large to compute). With a number for each shard and bucket, the default, it is 0 on what is kept.",
        rows,
        *("t", "scheme", "average", "worst", "spread", "delta"),
    )


def _straggling(chosen: Assignment, known: PlanOptions) -> tuple[int, float]:
    """How many shards straggle, and with which probability one does: as given, else each from the other."""
    t, p = known.tolerate, known.straggle_probability
    if t is None:
        t = chosen.tolerates() if p is None else round(p * chosen.shards)
    t = max(0, min(t, chosen.shards - 1))
    return t, t / chosen.shards if p is None else p


def _theorem(chosen: Assignment, known: PlanOptions) -> str:
    t, p = _straggling(chosen, known)
    asked = planner.theorem6_replication(known.delta, chosen.buckets, p)
    verdict = "out of reach" if asked > chosen.shards else "possible"
    source = f" ({t} of {chosen.shards:,})" if known.straggle_probability is None else ""
    lines = [
        f"Theorem 6 asks for l = {asked:,.0f} of {chosen.shards:,} shards: {verdict}. (Bernoulli, one number a shard, "
        f"delta {known.delta:g}, straggling probability {p:g}{source}, {chosen.buckets} buckets.)"
    ]
    if known.summary != "coreset":
        slack = planner.theorem6_slack(chosen.replication, chosen.buckets, p)
        follows = f"delta {slack:.2f}, factor {_factor(known.summary, slack)}"
        said = "no delta, and so no factor" if math.isinf(slack) else follows
        lines.append(f"What it proves of l = {chosen.replication:,}: {said}. (Probability 1 - 1 / {chosen.buckets}.)")
    return "\n".join(lines) + "\n"


def _property_table(schemes: list[Assignment], chosen: Assignment, known: PlanOptions) -> Group:
    """One number a shard: what each scheme makes of it with as many replicas, and what it would take."""
    t, likely = _straggling(chosen, known)
    p, rows = known.straggle_probability, []
    for scheme in schemes:
        found = single_multiplier.property1(scheme, t, known.delta, likely)
        slacks = ["-" if math.isinf(x) else f"{x:.2f}" for x in (found.delta, found.constant)]
        verdict = "no" if not found.holds else "yes" if found.exact else f"but for {_percent(found.fails)}"
        row = [scheme.kind, *slacks, "yes" if found.theorem6 else "no", verdict, _tried(found)]
        if p is not None:
            target = known.chance or 0.99
            probability, exact = single_multiplier.property1_probability(scheme, p, known.delta, target)
            row.append(f"{'' if exact else '>= '}{math.floor(1e6 * probability) / 1e6:.6g}")
        rows.append([*row, _factor(known.summary, found.delta), _least(scheme, known)])
    columns = ["scheme", "lp", "constant", "Thm 6's b", "holds", "sets", *([] if p is None else ["chance"])]
    proved = "3 (1 + delta)" if known.summary == "local_centers" else f"(1 + delta) (1 + {RELAXATION})"
    chance = "" if p is None else f" Chance: that it holds if each shard straggles with probability {p:g}."
    return _table(
        f"Property 1: one number a shard, delta at most {known.delta:g}, {t} of {chosen.shards} shards straggling",
        "Slack delta with the best number for each shard (lp), and with the same for all (constant), in the worst set "
        "of stragglers; - if that leaves a bucket without holder. Thm 6's b: whether that constant keeps to the "
        "slack. Sets: how many were tried; by 5: all others are mirror images of 5; drawn: a sample, and Property 1 "
        f"holds but for that share of all sets with {single_multiplier.CONFIDENCE:.0%} confidence.{chance} "
        f"Factor: {proved}, "
        "with optimal solvers. Least l: the replicas that the wish needs.",
        rows,
        *columns, "factor", "least l",
    )  # fmt: skip


def _tried(found: single_multiplier.Property1) -> str:
    if not found.sets:
        return "all"
    return f"all, by {found.sets}" if found.exact else f"{found.sets} drawn"


def _factor(summary: str, delta: float) -> str:
    if math.isinf(delta):
        return "none"
    return f"{local_centers.factor(delta) if summary == 'local_centers' else pca.factor(delta, RELAXATION):.2f}"


def _least(scheme: Assignment, known: PlanOptions) -> str:
    """Where symmetry makes the search short."""
    if scheme.kind not in ("cyclic", "fractional"):
        return ""
    tolerate = known.tolerate
    if tolerate is None and known.straggle_probability is None:
        tolerate = min(2, known.shards - 1)
    target = 0.99 if known.chance is None else known.chance
    try:
        found = single_multiplier.choose_for_one_number(
            scheme.shards, known.delta, tolerate, known.straggle_probability, target, known.buckets, known.seed,
            scheme.domains, (scheme.kind,),
        )  # fmt: skip
    except ValueError:
        return "none"
    return str(found.replication)


def _waiting(chosen: Assignment, known: PlanOptions) -> Iterator[planner.Waiting]:
    for shards in sorted({chosen.shards, *SIMULATED_SHARDS}):
        yield from planner.time_to_answer(shards, deadline=known.deadline, trials=200, seed=known.seed)


def _waiting_table(chosen: Assignment, known: PlanOptions) -> Group:
    rows = []
    for row in _waiting(chosen, known):
        waits = "all, l = 1" if row.deadline is None else f"l = {row.replication}, deadline"
        times = (f"{row.median:.1f}", f"{row.p99:.1f}")
        rows.append([f"{row.shards:,}", waits, *times, _coverage(row.coverage), _coverage(row.worst_coverage)])
    return _table(
        "Simulated time to answer with heavy-tailed shards",
        "In median times of a shard at l = 1, over 200 seeded trials: 2 % of the shards are slowed by a Pareto factor "
        "of index 1.2. A shard that holds l times the data takes l times as long. Cyclic scheme; an answer is given "
        f"when all is covered, or at the deadline of {known.deadline:g}.",
        rows,
        *("shards", "waits for", "median", "p99", "coverage", "least coverage"),
    )


if __name__ == "__main__":
    ending.run_and_leave(main)
