"""Reads a coreset and the data it stands for, and measures the distortion over many center sets, against the
certificate."""
import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam.options.pipeline_options import PipelineOptions
from rich.table import Table

from beam_coresets.declared import declare
from beam_coresets.pipelines.console import options, show
from beam_coresets.pipelines.console.options import DataOptions
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions
from beam_coresets.pipelines.passes.over_rows import combine_blocks, source_by_name
from beam_coresets.pipelines.results_folder.ownership import reading
from beam_coresets.pipelines.results_folder.scale_file import read_scale
from beam_coresets.pipelines.results_folder.stored import WindowOptions, newest, parts_of
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.running.waiting import Awaited
from beam_coresets.points.left_out import threshold
from beam_coresets.points.scale import Scale
from beam_coresets.results.distortion import Measured, center_sets, costs, subspace_sets
from beam_coresets.solvers.centers import solve_centers
from beam_coresets.solvers.model import point_costs
from beam_coresets.solvers.subspaces import Subspaces, solve_subspaces
from beam_coresets.transforms.base.bad_rows import described
from beam_coresets.transforms.rows.measure import CostOfCenters, UniformSample
from beam_coresets.transforms.writing import atomic_files

SAMPLE_ROWS = 200_000
SAMPLE_BYTES = 64 << 20
ROUNDING = 1e-9  # sums of the same numbers in another order


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets verify --input DATA --coreset OUT`; returns the exit code."""
    return options.run_job(argv, "verify", VerifyOptions, __doc__ or "", run)


@dataclasses.dataclass(frozen=True)
class VerifyOptions(DataOptions, TerminalOptions):
    """The options of `verify`: which data, and against what."""

    coreset: str = declare(None, "the --output folder of a run on the same --input", group="verification")
    csv: str | None = declare(None, "also write the measurements to this file", group="verification")


def run(known: VerifyOptions, beam_options: PipelineOptions, console: Terminal) -> int:
    """Measures and shows; returns the exit code.

    Raises:
      ValueError: something that can't work.
      JobError: a pass over the data failed.
    """
    options.require(known, "input", "coreset")
    if known.csv is not None:
        require_file(known.csv)
    if known.scale != "none":
        raise ValueError(f"scale: must be left to the coreset's scale.json, got {known.scale!r}")
    with reading([known.coreset]):
        summary, measured = verify(known, known.coreset, beam_options, console)
    if known.csv is not None:
        write_csv(known.csv, measured)
    console.answer("verify", coreset=known.coreset, **as_json(summary, measured))
    return show_measured(summary, measured, console)


def verify(
    known: DataOptions, coreset: str, beam_options: PipelineOptions, console: Terminal
) -> tuple[dict[str, Any], list[Measured]]:
    """The summary row that is checked, and the measurements; those of the emitted centers come first.

    Raises:
      ValueError: no such tables, no centers, or data that doesn't fit them.
    """
    rows = newest([coreset], WindowOptions(), "coreset")
    if len(rows) != 1:
        raise ValueError(f"coreset: must be that of one window and key, got {len(rows)} in {coreset!r}")
    ((_, summary),) = rows.items()
    ((_, found),) = parts_of([coreset], rows, "centers", "coreset")
    emitted = [row for row in found.to_pylist() if row["index"] is not None]
    if not emitted:
        raise ValueError(f"coreset: must have centers, got {coreset!r} with none")
    known = dataclasses.replace(known, metric=known.metric or summary["metric"])
    scale = read_scale(coreset, summary["columns"])
    emitted.sort(key=lambda row: row["index"])
    centers = np.array([row["coordinates"] for row in emitted])
    ((_, table),) = parts_of([coreset], rows, option="coreset")
    points = np.array(table.column("coordinates").to_pylist())
    weights = table.column("weight").to_numpy()
    if scale is not None:
        centers, points = scale.apply(centers), scale.apply(points)
    known, source = source_by_name(known, summary["columns"], points.shape[1], "the coreset")
    show.notes(source.notes, console)
    source.require_rows()
    size = min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * source.dim))
    most = known.max_bad_rows
    one_pass = functools.partial(combine_blocks, known, beam_options, scale, console, coreset, max_bad_rows=most)
    (sample, sample_weights), refused = one_pass(UniformSample(size))
    if refused[0]:
        console.print(f"refused rows: {escape(described(refused))}", highlight=False, soft_wrap=True)
    sample = sample.astype(points.dtype)
    z, metric = summary["z"], summary["metric"]
    sets: list[tuple[str, Any]]
    thresholds, left_out = None, 0.0 if summary["r"] else summary["outliers"] or 0.0
    with Awaited(console.aside, "solving for other centers, which the coreset is tried on"):
        if summary["r"]:
            flats = _emitted_subspaces(emitted, centers, scale, summary["affine"])
            sets = _subspace_sets(summary, flats, (sample, sample_weights), (points, weights))
        else:
            share = left_out / summary["total_weight"] if left_out else 0.0
            own, weight = summary["seed"] + 1, sample_weights.sum()
            search = {"k": len(centers), "z": z, "metric": metric}
            best = solve_centers(sample, sample_weights, seed=1, left_out=share * weight, **search).centers
            other = solve_centers(points, weights, seed=own, left_out=share * weights.sum(), **search).centers
            sets = [("emitted", centers), *center_sets(sample, best, [centers, other], z, metric)]
        if left_out:
            thresholds = _thresholds(sets, (points, weights), left_out, summary)
    on_data, _ = one_pass(CostOfCenters(sets, z, metric, thresholds))
    on_coreset = costs(points, weights, sets, z, metric, thresholds)
    if thresholds is not None:
        on_data, on_coreset = on_data - summary["outliers"] * thresholds, on_coreset - summary["outliers"] * thresholds
    return summary, [Measured(n, float(a), float(b)) for (n, _), a, b in zip(sets, on_data, on_coreset, strict=True)]


def _thresholds(
    sets: Sequence[tuple[str, Any]], coreset: tuple[Any, Any], left_out: float, summary: dict[str, Any]
) -> npt.NDArray[Any]:
    """The cost beyond which each set leaves points out, as the coreset tells: with it one pass over the data has the
    cost without outliers, up to an error of second order (`beam_coresets.points.left_out`)."""
    points, weights = coreset
    found = [point_costs(points, centers, summary["z"], summary["metric"])[1] for _, centers in sets]
    return np.array([threshold(cost, weights, left_out) for cost in found])


def _emitted_subspaces(
    emitted: Sequence[dict[str, Any]], centers: npt.NDArray[Any], scale: Scale | None, affine: bool
) -> Subspaces:
    """The rows of `centers` in scaled units, where linear subspaces go through the origin again."""
    bases = np.array([row["basis"] for row in emitted]).reshape(len(emitted), -1, centers.shape[1])
    return Subspaces(centers if affine else 0 * centers, bases if scale is None else scale.apply_bases(bases), affine)


def _subspace_sets(
    summary: dict[str, Any], flats: Subspaces, sample: tuple[Any, Any], coreset: tuple[Any, Any]
) -> list[tuple[str, Any]]:
    k, r, affine = len(flats.centers), summary["r"], summary["affine"]
    best = solve_subspaces(*sample, k, r, affine=affine, seed=1)
    other = solve_subspaces(*coreset, k, r, affine=affine, seed=summary["seed"] + 1)
    return [("emitted", flats), *subspace_sets(sample[0], best, [flats, other])]


def show_measured(summary: dict[str, Any], measured: list[Measured], console: Terminal) -> int:
    """Prints the table and the verdict."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("centers", "cost on the data", "on the coreset", "distortion"):
        table.add_column(name, justify="left" if name == "centers" else "right")
    for m in measured[1:]:
        table.add_row(m.name, show.number(m.data), show.number(m.coreset), f"{m.distortion:.4f}")
    console.print(table, highlight=False)
    console.print(f"distortion: {max(m.distortion for m in measured):.4f}", highlight=False)
    truth = f"emitted centers: cost {show.number(measured[0].data)} on all data"
    said, low, high = (show.number(summary[name]) for name in ("cost", "cost_low", "cost_high"))
    held = has_held(summary, measured)
    if summary["constraint_text"]:
        verdict = f"{truth} without their constraint (assign has it under it)"
    elif held is None:
        verdict = f"{truth}; the certificate has no interval"
    else:
        verdict = f"{truth}; the certificate said {said}, {low} to {high}: {'held' if held else '[red]did not hold[/]'}"
    console.print(verdict, highlight=False, soft_wrap=True)
    return 0


def has_held(summary: dict[str, Any], measured: list[Measured]) -> bool | None:
    """Whether the certificate's interval holds the cost on all data; None of a constraint, or without an interval."""
    truth, low, high = measured[0].data, summary["cost_low"], summary["cost_high"]
    if summary["constraint_text"] or low is None or high is None or not high >= low:
        return None
    return bool(low - ROUNDING * truth <= truth <= high + ROUNDING * truth)


def as_json(summary: dict[str, Any], measured: list[Measured]) -> dict[str, Any]:
    """What --json prints."""
    certificate = {name: summary[name] for name in ("cost", "cost_low", "cost_high", "cost_basis", "trust")}
    sets = [{"centers": m.name, "data": m.data, "coreset": m.coreset, "distortion": m.distortion} for m in measured]
    return {"distortion": max(m.distortion for m in measured), "cost": measured[0].data, "certificate": certificate,
            "held": has_held(summary, measured), "center_sets": sets}  # fmt: skip


def require_file(path: str) -> None:
    """Raises ValueError where no file of this name can be written: before minutes are spent on what is to be in it."""
    folder = os.path.dirname(path) or "."
    if not path or os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise ValueError(f"csv: must be a file that can be written, got {path!r}")


def write_csv(path: str, measured: list[Measured]) -> None:
    """The measurements, a row a center set.

    Raises:
      ValueError: the file can't be written.
    """
    lines = [f"{m.name},{m.data!r},{m.coreset!r},{m.distortion!r}\n" for m in measured]
    text = "".join(["centers,data,coreset,distortion\n", *lines]).encode()
    folder = os.path.dirname(path) or "."
    try:
        if os.path.islink(path) or os.path.exists(path) > os.path.isfile(path) or not os.access(folder, os.W_OK):
            with open(path, "wb") as file:  # /dev/stdout, a pipe, a file that may be written in a folder that may not
                file.write(text)
        else:  # two runs leave the file of one of them
            atomic_files.replace(path, text)
    except OSError as error:
        raise ValueError(f"csv: must be a file that can be written, got {path!r} ({error.strerror})") from None


if __name__ == "__main__":
    ending.run_and_leave(main)
