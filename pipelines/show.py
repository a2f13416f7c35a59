"""Tables for a person at a terminal."""
import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beam_coresets.transforms.sinks import files_of, read_table


def number(value: float | None, digits: int = 6) -> str:
    """A number that reads well: no exponent for everyday sizes."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.{digits}g}" if not 1e6 <= abs(value) < 1e15 or value != int(value) else f"{value:,.0f}"


def shards(numbers: list[int]) -> str:
    """Shard numbers, shortened where there are many."""
    shown = ", ".join(map(str, numbers[:20]))
    return f"{shown}, ... ({len(numbers)})" if len(numbers) > 20 else shown or "none"


def result(output: str, seconds: float, console: Console, scaled: bool = True) -> None:
    """What a batch job found: who answered, coverage, cost, and its largest centers.

    Args:
      scaled: whether what is not covered was scaled over.
    """
    for row in read_table(output, "summaries").to_pylist():
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in _lines(row, seconds, scaled):
            table.add_row(f"[bold]{name}[/]", value)
        console.print(table, highlight=False)
    centers = [row for row in read_table(output, "centers").to_pylist() if row["index"] is not None]
    _print_centers(sorted(centers, key=lambda c: -c["weight"]), console)
    refused = len(read_table(output, "dead_letters")) if files_of(output, "dead_letters") else 0
    more = f"; {refused:,} refused rows in dead_letters" if refused else ""
    console.print(f"\nTables in {escape(output)}: summaries, centers, coreset{more}", highlight=False, soft_wrap=True)


def _lines(row: dict[str, Any], seconds: float, scaled: bool) -> list[tuple[str, str]]:
    answered = f"{len(row['responded'])} of {row['shards']} shards; missing: {shards(row['stragglers'])}"
    if row["distrusted"]:
        answered += f"; distrusted: {', '.join(row['distrusted'])}"
    if row["degraded"]:
        answered += "  [red](degraded)[/]"
    interval = f"95 % interval {number(row['cost_low'])} to {number(row['cost_high'])}   (by {row['cost_basis']})"
    if row["cost_basis"] == "exact":
        interval = "exact: the coreset holds every row"
    rest = "the rest was scaled over" if scaled else "the rest is missing or was read in part"
    lost = "" if row["coverage"] == 1 else f"   [yellow]({rest})[/]"
    return [
        ("answered", answered),
        ("coverage", f"{row['coverage']:.4g}{lost}   delta {number(row['delta'])}"),
        ("points", f"{row['points']:,}   total weight {number(row['total_weight'])}"),
        ("coreset", f"{row['coreset_points']:,} points"),
        ("cost", f"{number(row['cost'])}   {interval}"),
        ("centers", f"{row['centers']} of k = {row['k']}" + _fewer(row)),
        ("speed", f"{seconds:.1f} s, {row['points'] / max(seconds, 1e-9) / 1e6:.2f} M points/s"),
    ]


def _fewer(row: dict[str, Any]) -> str:
    if row["centers"] < row["k"] and row["total_weight"] > 0:
        return "   [yellow](the data has fewer distinct points than k)[/]"
    return ""


def _print_centers(centers: list[dict[str, Any]], console: Console, most: int = 10) -> None:
    if not centers:
        return
    table = Table(title=None, box=None, padding=(0, 2, 0, 0))
    for name in ("center", "weight", "cost", "nearest row", "coordinates"):
        table.add_column(name, justify="right" if name in ("center", "weight", "cost") else "left", no_wrap=True)
    shown = 2 if console.width < 100 else 6
    for center in centers[:most]:
        head = ", ".join(number(x, 4 if abs(x) < 1e5 else 9) for x in center["coordinates"][:shown])
        more = ", ..." if len(center["coordinates"]) > shown else ""
        table.add_row(
            str(center["index"]), number(center["weight"], 4), number(center["cost"], 4),
            escape(center["representative_id"] or "-"), head + more,
        )
    console.print()
    console.print(table, highlight=False)
    if len(centers) > most:
        console.print(f"... and {len(centers) - most} more", highlight=False)
