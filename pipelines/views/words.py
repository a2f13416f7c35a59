"""What a page says in words: the answer, what the certificate is worth and what it does not cover, and of each chart
what it shows, for those who do not see it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beam_coresets.pipelines.views.written import cut
from beam_coresets.solvers.constrained.kept import BINDING, VIOLATED, KeptBound
from beam_coresets.times import iso

A_MOMENT = 0.5  # seconds that a decision at the deadline may take
MEASURED = {
    "replicas": "the disagreement of shards that hold the same rows",
    "sample": "the sample itself, as no two shards hold the same rows",
}
NO_CLUSTERS = "There are no centers, so there are no clusters that keep to the constraint."


def number(value: float | None, digits: int = 4) -> str:
    """A number that reads well; "unknown" for none."""
    if value is None:
        return "unknown"
    if value and abs(value) < 1e-4:
        return f"{value:.{digits}g}"
    if abs(value) >= 1e15:
        return f"{value:.{digits}g}"
    text = f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:,.{digits}g}"
    return text


def percent(value: float | None) -> str:
    """A share."""
    return "unknown" if value is None else f"{100 * value:.3g} %"


def moment(milliseconds: float | None) -> str:
    """A time in UTC, to the second where that is all there is."""
    if milliseconds is None:
        return "the beginning"
    text = iso(milliseconds / 1e3, "milliseconds" if milliseconds % 1000 else "seconds", "")
    return text.replace("T", " ") + " UTC"


def counted(n: int, what: str, several: str = "") -> str:
    """So many of something."""
    return f"{n:,} {what if n == 1 else several or what + 's'}"


def answer(row: Mapping[str, Any]) -> list[list[str]]:
    """What was found, as pairs of a name and a value.

    Args:
      row: of `summaries`.
    """
    answered = f"{len(row['responded'] or ()):,} of {row['shards']:,} shards"
    if row["stragglers"]:
        answered += f"; no answer from {_some(row['stragglers'])}"
    if row["distrusted"]:
        answered += f"; not trusted everywhere: {_some(row['distrusted'])}"
    lines = [
        ["rows", f"{row['points']:,}"],
        ["total weight", number(row["total_weight"], 6)],
        ["coverage", percent(row["coverage"])],
        ["answered", answered],
        ["cost", _cost(row)],
        ["centers", f"{row['centers']:,} of k = {row['k']:,}" + (f", of dimension {row['r']}" if row["r"] else "")],
        ["coreset", counted(row["coreset_points"], "point")],
    ]
    if row["constraint_text"]:
        lines.append(["constraint", cut(row["constraint_text"]) or ""])
    if row["outliers"] is not None:
        share = row["outliers"] / row["total_weight"] if row["total_weight"] else None
        lines.append(["left out", f"{number(row['outliers'])} of the weight ({percent(share)})"])
    if row["decided_at"] is not None:
        decided = row["decided_at"]
        at = decided if isinstance(decided, (int, float)) else decided.timestamp()
        lines.append(["decided", f"{moment(1e3 * at)} ({_reason(row['reason'])})"])
    asked = f"z = {row['z']:g}, {row['metric']} distances, replication {row['replication']}, seed {row['seed']}"
    return [*lines, ["asked", asked], ["written by", f"beam-coresets {row['version']}"]]


def certificate(row: Mapping[str, Any]) -> list[str]:
    """What holds, a sentence each.

    Args:
      row: of `summaries`.
    """
    said = []
    if row["coverage"] >= 1:
        said.append("Every part of the data was answered for by a shard that is trusted: nothing was lost.")
    elif row["coverage"] > 0:
        said.append(f"{percent(row['coverage'])} of the data was answered for; the rest is missing.")
    else:
        said.append("No shard that is trusted has answered: nothing is known.")
    gone = len(row["stragglers"] or ())
    if gone and row["coverage"] >= 1:
        was = counted(gone, "shard has", "shards have")
        held = f"{row['replication']} shards" + (" on average" if row["scheme"] == "bernoulli" else "")
        said.append(f"{was} not answered; each row is held by {held}, so others did.")
    if row["cost"] is None:
        return [*said, "There is no cost, as there are no rows or no centers."]
    if row["cost_basis"] == "exact":
        return [*said, f"The centers cost exactly {number(row['cost'], 5)}: the coreset holds every row."]
    low, high = number(row["cost_low"], 5), number(row["cost_high"], 5)
    if row["trust"] == "bound only":
        return [*said, f"The centers cost {low} to {high} on all of the data: a bound, not an estimate."]
    said.append(f"The centers cost {number(row['cost'], 5)} on all of the data, with 95 % confidence {low} to {high}.")
    basis = MEASURED.get((row["cost_basis"] or "").partition(",")[0])
    if basis:
        said.append(f"That interval was measured by {basis}.")
    if (row["trust"] or "").startswith("weak"):
        said.append(f"It may hold less often than it says ({row['trust'].partition(': ')[2] or 'weak'}).")
    if row["factor"] is not None:
        said.append(f"They cost at most {number(row['factor'])} times the best centers.")
    return said


def limits(row: Mapping[str, Any]) -> list[str]:
    """What the certificate does not cover, a sentence each.

    Args:
      row: of `summaries`.
    """
    said = ["It is about these centers on the rows that were read. It does not say that no better centers exist."
            if row["factor"] is None else "It is about these centers on the rows that were read."]  # fmt: skip
    said.append("Rows that were refused (dead letters) and rows that came too late are in no figure.")
    if row["coverage"] < 1:
        lost = "is scaled over, as if it were like the rest" if row["reason"] == "batch" else "is left out"
        said.append(f"What is missing {lost}.")
    if row["trust"] is not None and row["trust"] != "bound only" and row["cost_basis"] != "exact":
        said.append("How often the interval holds is measured on many kinds of data, not proved.")
    if row["constraint_text"] or row["r"]:
        said.append("Intervals under constraints and of subspaces were measured on fewer kinds of data.")
    said.append("A shard that forges rows and checksums that match them is not found by the ledgers.")
    return said


def bounds(kept: Sequence[KeptBound], most: int, left_out: bool) -> list[str]:
    """How the clusters keep to a constraint, a sentence each.

    Args:
      kept: its bounds, the tightest first. most: of them that are shown. left_out: whether those on groups
        are not known.
    """
    said, violated = [], [each for each in kept if each.state == VIOLATED]
    binding = sum(each.state == BINDING for each in kept)
    if kept:
        said.append(f"Of {counted(len(kept), 'bound')} {_are(binding)} binding (met with equality) and "
                    f"{_are(len(violated))} violated.")  # fmt: skip
    if violated:
        worst = max(violated, key=lambda each: -each.room / (each.bound or max(each.held, 1e-300)))
        by = percent(-worst.room / (worst.bound or max(worst.held, 1e-300)))
        said.append(f"The worst is missed by {by} of the bound.")
    if left_out:
        said.append("How much of each cluster the groups have was not written yet by the version that made this: "
                    "`beam-coresets solve` writes it.")  # fmt: skip
    if len(kept) > most:
        said.append(f"The tightest {most:,} are shown.")
    return said


def alternatives(contents: Mapping[str, Any], i: int) -> dict[str, str]:
    """Of each chart what it shows, for one of the keys.

    Args:
      contents: of the page. i: the number of the key.
    """
    latest, series = contents["latest"][i], contents["series"][i]
    points, centers = len(latest["points"]["id"]), len(latest["centers"]["name"])
    of = latest["all_centers"]
    crosses = counted(of, "center") if centers == of else f"the heaviest {centers:,} of {of:,} centers"
    said = {"points": f"{points:,} of {counted(latest['coreset_points'], 'sampled row')} and {crosses}."}
    if centers:
        heaviest = latest["centers"]
        said["points"] += f" The heaviest center, {heaviest['name'][0]}, has {percent(heaviest['share'][0])}."
    windows = contents["windows"]
    said["cost"] = _of_costs(series, windows)
    said["drift"] = _of_drift(series, windows)
    said["shards"] = _of_shards(contents)
    lags = [lag for lag in windows["lag"] if lag is not None]
    if lags:
        said["lag"] = f"Windows were decided {number(min(lags))} to {number(max(lags))} seconds after their end."
        if contents["deadline"]:
            late = sum(lag > contents["deadline"] + A_MOMENT for lag in lags)
            said["lag"] += f" The deadline is {number(contents['deadline'])} seconds; {late:,} came much later."
    counts = contents["events"]["kind"]
    kinds = ", ".join(f"{counts.count(kind):,} {kind}" for kind in dict.fromkeys(counts))
    said["events"] = f"{counted(len(counts), 'event')}: {kinds}." if counts else "No events."
    letters = contents["letters"]
    pairs = ", ".join(f"{n:,} {reason}" for reason, n in zip(letters["reason"], letters["count"], strict=True))
    said["letters"] = f"Refused rows: {pairs}." if pairs else "No refused rows."
    curve = contents["curve"]
    if curve:
        said["curve"] = f"The cost of k = {curve['k'][0]} to {curve['k'][-1]}: from {number(curve['cost'][0])} to " \
            f"{number(curve['cost'][-1])}."  # fmt: skip
    return said


def _are(n: int) -> str:
    return f"{n:,} {'is' if n == 1 else 'are'}" if n else "none is"


def _of_costs(series: Mapping[str, Any], windows: Mapping[str, Any]) -> str:
    costs = [c for c in series.get("cost", ()) if c is not None]
    if not costs:
        return "No costs."
    ends = f"{number(min(costs))} to {number(max(costs))}"
    text = f"The cost in {counted(len(costs), 'window')}: {ends}, last {number(costs[-1])}."
    gaps = len(series["at"]) - len(costs)
    return f"{text} {counted(gaps, 'window has', 'windows have')} none." if gaps else text


def _of_drift(series: Mapping[str, Any], windows: Mapping[str, Any]) -> str:
    moved = [m for m in series.get("moved", ()) if m is not None]
    if not moved:
        return "Nothing to compare with."
    drifted = [moment(windows["end"][series["at"][j]]) for j in series["drifted"]]
    text = f"Between windows at most {percent(max(moved))} of the weight moved."
    if not drifted:
        return f"{text} No window drifted."
    return f"{text} Drift was found in {counted(len(drifted), 'window')}, last in that to {drifted[-1]}."


def _of_shards(contents: Mapping[str, Any]) -> str:
    windows, missing = contents["windows"], contents["missing"]
    n = len(windows["end"])
    if not n:
        return ""
    whole = sum(c is not None and c >= 1 for c in windows["coverage"])
    one = "One window, whole." if whole else "One window, not whole."
    text = one if n == 1 else f"{n:,} windows, {whole:,} of them whole."
    lost = sorted({shard for shard, what in zip(missing["shard"], missing["what"], strict=True) if what == "no answer"})
    if lost:
        text += f" Without an answer{' in some' if n > 1 else ''}: shard{'s' if len(lost) > 1 else ''} {_some(lost)}."
    else:
        text += " All shards answered" + (" in all of them." if n > 1 else ".")
    gaps = len(contents["gaps"]["start"])
    return f"{text} {counted(gaps, 'time')} between them without a window." if gaps else text


def _cost(row: Mapping[str, Any]) -> str:
    if row["cost"] is None:
        return "unknown"
    if row["cost_basis"] == "exact":
        return f"{number(row['cost'], 5)} (exact)"
    return f"{number(row['cost'], 5)} ({number(row['cost_low'], 5)} to {number(row['cost_high'], 5)})"


def _some(values: Any) -> str:
    shown = ", ".join(map(str, list(values)[:20]))
    return f"{shown}, ... ({len(values):,})" if len(values) > 20 else shown


def _reason(reason: str | None) -> str:
    return {"all": "all shards had answered", "deadline": "at the deadline", "cap": "at the cap"}.get(
        reason or "", reason or "")  # fmt: skip
