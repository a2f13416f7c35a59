"""Tables for a person at a terminal."""
import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from beam_coresets import table_schemas, values
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.running.waiting import amount
from beam_coresets.transforms.writing.stored_tables import files_of, read_table

MOST_NAMES = 12  # of columns
MOST_COORDINATES = 6  # of a center
MOST_LINES = 20  # windows and keys shown at once
PROVED = {
    "local_centers": "supposing optimal solvers: alpha = beta = 1",
    "pca": "(1 + delta) (1 + slack of what was sent)",
}


def number(value: float | None, digits: int = 6) -> str:
    """A number that reads well: no exponent for everyday sizes."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.{digits}g}" if not 1e6 <= abs(value) < 1e15 or value != int(value) else f"{value:,.0f}"


def weak(row: dict[str, Any]) -> str:
    """A mark behind an interval that may hold less often than it says."""
    return " [yellow](weak)[/]" if (row["trust"] or "").startswith("weak") else ""


def shards(numbers: list[int]) -> str:
    """Shard numbers, shortened where there are many."""
    shown = ", ".join(map(str, numbers[:20]))
    return f"{shown}, ... ({len(numbers)})" if len(numbers) > 20 else shown or "none"


def notes(found: Sequence[str], console: Console) -> None:
    """What reading leaves out or settles by itself, a line each."""
    for note in found:
        console.print(f"[dim]{escape(note)}[/]", highlight=False, soft_wrap=True)


def settings(found: Sequence[str], verbose: bool, console: Console) -> None:
    """What was set for the runner, a line each with its reason, for --verbose."""
    if verbose:
        notes(found, console)


def figures(summaries: pa.Table) -> list[dict[str, Any]]:
    """The rows of `summaries` for --json: all but the evidence."""
    columns = {name: values.portable(summaries.column(name)) for name in summaries.column_names if name != "evidence"}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def stored(output: str) -> dict[str, Any]:
    """What a folder holds, for --json: its path, its tables, how many rows were refused, and its summaries."""
    tables = [name for name in table_schemas.ALL_TABLES if files_of(output, name)]
    return {"output": output, "tables": tables, "refused_rows": _refused(output),
            "summaries": figures(read_table(output, "summaries"))}  # fmt: skip


def _refused(output: str) -> int:
    return len(read_table(output, "dead_letters")) if files_of(output, "dead_letters") else 0


def result(output: str, seconds: float | None, console: Console, scaled: bool = True) -> None:
    """What a batch job found: who answered, coverage, cost, and its largest centers.

    Args:
      seconds: that it took; None where nobody knows.
      scaled: whether what is not covered was scaled over.
    """
    places = _places(output)
    for row in read_table(output, "summaries").to_pylist():
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in _lines(row, seconds, scaled):
            table.add_row(f"[bold]{name}[/]", value)
        if row["key"] in places:
            table.add_row("[bold]candidates[/]", _candidates(row, places[row["key"]]))
        console.print(table, highlight=False)
    centers = [row for row in read_table(output, "centers").to_pylist() if row["index"] is not None]
    _print_centers(sorted(centers, key=lambda c: -c["weight"]), console)
    refused = _refused(output)
    more = "".join(f", {name}" for name in ("columns", "candidates", "outliers") if files_of(output, name))
    more += f"; {refused:,} refused rows in dead_letters" if refused else ""
    console.print(f"\nTables in {escape(output)}: summaries, centers, coreset{more}", highlight=False, soft_wrap=True)


def several(named: Sequence[tuple[str, dict[str, Any]]], output: str, console: Console) -> None:
    """Several (name, row of summaries), a line each: the newest windows in the order of time; of one window's keys, the
    heaviest first."""
    windows = len({row["window_start"] for _, row in named}) > 1
    if windows:
        listed = sorted(named, key=lambda each: (each[1]["window_start"], each[0]))[-MOST_LINES:]
    else:
        listed = sorted(named, key=lambda each: (-each[1]["total_weight"], each[0]))[:MOST_LINES]
    table = Table(box=None, padding=(0, 2, 0, 0))
    first = "window" if windows else "key"
    for name in (first, "points", "total weight", "coverage", "cost", "95 % interval", "centers"):
        table.add_column(name, justify="left" if name == first else "right")
    for name, row in listed:
        interval = f"{number(row['cost_low'])} to {number(row['cost_high'])}{weak(row)}"
        shown = [number(row[name]) for name in ("total_weight", "coverage", "cost")]
        table.add_row(escape(name), f"{row['points']:,}", *shown, interval, str(row["centers"]))
    console.print(table, highlight=False)
    more = f"{len(named) - len(listed)} {'earlier' if windows else 'more'}. " if len(named) > len(listed) else ""
    console.print(
        f"\n{more}Tables in {escape(output)}: summaries, centers, coreset, columns", highlight=False, soft_wrap=True
    )


def curve(rows: Sequence[dict[str, Any]], windows: int, console: Console) -> None:
    """The cost against k, with its 95 % interval: rows of `summaries`, one a k; of how many windows and keys."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("k", "cost", "95 % interval", "to the k before"):
        table.add_column(name, justify="right")
    before = None
    for row in rows:
        interval = f"{number(row['cost_low'])} to {number(row['cost_high'])}{weak(row)}"
        gain = "" if not before or row["cost"] is None else f"{row['cost'] / before - 1:+.1%}"
        table.add_row(str(row["k"]), number(row["cost"]), interval, gain)
        before = row["cost"]
    console.print(table, highlight=False)
    if windows > 1:
        console.print(f"of the heaviest of {windows} windows and keys; curve.csv has all", highlight=False)


def _places(output: str) -> dict[str, list[dict[str, Any]]]:
    """The candidates of each key."""
    out: dict[str, list[dict[str, Any]]] = {}
    for row in read_table(output, "candidates").to_pylist() if files_of(output, "candidates") else []:
        out.setdefault(row["key"], []).append(row)
    return out


def _candidates(row: dict[str, Any], places: list[dict[str, Any]]) -> str:
    """What a weak coreset offers for centers, and where it is from."""
    source = "samples that the coreset does without"
    if not all(place["independent"] for place in places):
        source = "the coreset itself: no shard could be spared"
    alpha = "" if row["alpha"] is None else f"   alpha {number(row['alpha'], 4)}"
    return f"{len(places):,} for centers, from {source}{alpha}"


def _lines(row: dict[str, Any], seconds: float | None, scaled: bool) -> list[tuple[str, str]]:
    answered = f"{len(row['responded'])} of {row['shards']} shards; missing: {shards(row['stragglers'])}"
    if row["distrusted"]:
        answered += f"; distrusted: {', '.join(row['distrusted'])}"
    if row["degraded"]:
        answered += "  [red](degraded)[/]"
    interval = f"95 % interval {number(row['cost_low'])} to {number(row['cost_high'])}   (by {row['cost_basis']})"
    if (row["trust"] or "").startswith("weak"):
        interval += f"  [yellow]({escape(row['trust'])})[/]"
    if row["cost_basis"] == "exact":
        interval = "exact: the coreset holds every row"
    if row["summary"] in PROVED:
        how = "about" if _estimated(row) else "proved:"
        interval = f"{how} {number(row['cost_low'])} to {number(row['cost_high'])}   (by {row['cost_basis']})"
    rest = "the rest was scaled over" if scaled else "the rest is missing or was read in part"
    lost = "" if row["coverage"] == 1 else f"   [yellow]({rest})[/]"
    return [
        ("answered", answered),
        ("coverage", f"{row['coverage']:.4g}{lost}   delta {number(row['delta'])}"),
        ("points", f"{row['points']:,}   total weight {number(row['total_weight'])}"),
        ("coreset", f"{row['coreset_points']:,} points"),
        ("cost", f"{number(row['cost'])}   {interval}"),
        *_guarantee(row),
        *_outliers(row),
        *([("constraint", escape(row["constraint_text"]))] if row["constraint_text"] else []),
        ("subspaces" if row["r"] else "centers", f"{row['centers']} of k = {row['k']}" + _dimension(row) + _fewer(row)),
        *([("columns", escape(_named(row["columns"])))] if row["columns"] else []),
        *([] if seconds is None else [("speed", speed(row["points"], seconds))]),
    ]


def speed(points: float, seconds: float) -> str:
    """How long it took, and how many points a second that is."""
    return f"{seconds:.1f} s, {amount(points / max(seconds, 1e-9))} points/s"


def _named(columns: Sequence[str]) -> str:
    """The columns that are coordinates, shortened where there are many."""
    more = f", ... ({len(columns)})" if len(columns) > MOST_NAMES else ""
    return ", ".join(columns[:MOST_NAMES]) + more


def _guarantee(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What is proved about the result, where shards have not sent coresets."""
    if row["summary"] not in PROVED:
        if row["factor"] is None:
            return []
        of = "" if row["cost_basis"] == "exact" else " on the coreset"
        told = f"at most {number(row['factor'], 4)} times the best cost{of}   (every choice of candidates was tried)"
        return [("factor", told)]
    if _estimated(row):
        return [("factor", "no guarantee: a shard held more rows than it can keep, so local costs are estimates")]
    if row["factor"] is None:
        return [("factor", f"no guarantee: {1 - row['coverage']:.2%} of the buckets have no holder")]
    return [("factor", f"at most {number(row['factor'], 4)} times the best cost   ({PROVED[row['summary']]})")]


def _estimated(row: dict[str, Any]) -> bool:
    """Whether what should bound the cost was estimated itself."""
    return str(row["cost_basis"]).endswith("estimated")


def _outliers(row: dict[str, Any]) -> list[tuple[str, str]]:
    """How much the centers leave out, where they were to leave something out."""
    if row["outliers"] is None:
        return []
    beyond = "" if row["threshold"] is None else f", which costs more than {number(row['threshold'])}"
    share = row["outliers"] / row["total_weight"] if row["total_weight"] else 0.0
    most = "   [yellow](never more than half)[/]" if share > 0.5 - 1e-6 else ""
    return [("outliers", f"{number(row['outliers'])} of the weight left out ({share:.2%}){beyond}{most}")]


def _fewer(row: dict[str, Any]) -> str:
    if row["centers"] < row["k"] and row["total_weight"] > 0:
        why = "no more are needed to hold all points" if row["r"] else "the data has fewer distinct points than k"
        return f"   [yellow]({why})[/]"
    return ""


def _dimension(row: dict[str, Any]) -> str:
    return f", {'affine' if row['affine'] else 'linear'}, r = {row['r']}" if row["r"] else ""


def _head(values: list[float], shown: int, digits: Sequence[int] = ()) -> str:
    """The first few of a point's coordinates, to so many digits each."""
    few = zip_longest(values[:shown], digits[:shown], fillvalue=4)
    head = ", ".join(number(x, of if abs(x) < 1e5 else max(of, 9)) for x, of in few)
    return head + (", ..." if len(values) > shown else "")


def _digits(points: Sequence[Sequence[float]]) -> list[int]:
    """Of each coordinate as many digits as tell points apart that are side by side far from zero, such as places."""
    out = []
    for column in zip(*points, strict=True):
        spread, most = max(column) - min(column), max(map(abs, column))
        more = math.log10(most / spread) if spread > 0 else 0.0
        out.append(4 + min(max(0, math.ceil(more)), 11))
    return out


def _print_centers(centers: list[dict[str, Any]], console: Console, most: int = 10) -> None:
    """As many of their coordinates as the terminal is wide."""
    if not centers:
        return
    for shown in range(MOST_COORDINATES, 0, -1):
        table = _table_of(centers, shown, most)
        if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
            break
    console.print()
    console.print(table, highlight=False)
    if len(centers) > most:
        console.print(f"... and {len(centers) - most} more", highlight=False)


def _table_of(centers: list[dict[str, Any]], shown: int, most: int) -> Table:
    """The first centers with so many coordinates each."""
    table = Table(title=None, box=None, padding=(0, 2, 0, 0))
    flats = centers[0]["basis"] is not None
    numbers = ("subspace" if flats else "center", "weight", "cost")
    for name in (*numbers, "nearest row", *(("point on it", "directions") if flats else ("coordinates",))):
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    digits = _digits([center["coordinates"] for center in centers])
    for center in centers[:most]:
        d = len(center["coordinates"])
        basis = center["basis"] or []
        directions = [_head(basis[low : low + d], shown) for low in range(0, len(basis), d)]
        table.add_row(
            str(center["index"]), number(center["weight"], 4), number(center["cost"], 4),
            escape(center["representative_id"] or "-"), _head(center["coordinates"], shown, digits),
            *(["\n".join(directions)] if flats else []),
        )
    return table
