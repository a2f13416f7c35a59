"""Rows and centers -> rows with their cluster and distance; under the centers' constraint, if they have one."""
import csv
import dataclasses
import io
import time
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from rich.table import Table

from beam_coresets.assigning.cluster_assignment import Membership, Nearest
from beam_coresets.assigning.dual_prices import Survey, Surveyor, narrowed, reach_of, reprice, violations
from beam_coresets.declared import declare, declared_as
from beam_coresets.parameters.plan import PlanParameters
from beam_coresets.pipelines.console import options, show
from beam_coresets.pipelines.console.options import DataOptions, ResultOptions
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.passes.over_rows import Result, blocks_of, combine_blocks, source_by_name
from beam_coresets.pipelines.results_folder.ownership import owning, reading
from beam_coresets.pipelines.results_folder.scale_file import read_scale
from beam_coresets.pipelines.results_folder.stored import WindowOptions, dated, newest, parts_of, require_apart
from beam_coresets.pipelines.running import ending, launch
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.points.scale import Scale
from beam_coresets.solvers.constrained.bounds import Bounds
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.solvers.model import Centers, Model
from beam_coresets.solvers.subspaces import Subspaces
from beam_coresets.transforms.base.bad_rows import gate
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.parts import row_names
from beam_coresets.transforms.rows.assign_rows import FOLDER, AssignRows, SizesOfClusters, WriteAssigned
from beam_coresets.transforms.rows.measure import SurveyRows
from beam_coresets.transforms.writing.atomic_files import write_once
from beam_coresets.transforms.writing.dead_letters import WriteDeadLetters
from beam_coresets.transforms.writing.stored_tables import files_of

SAMPLE_ROWS = 200_000  # at least so many rows tell the prices,
SAMPLE_COSTS = 8_000_000  # all of them if they and the clusters make no more pairs than this,
SAMPLE_BYTES = 256 << 20  # but never more than fit into this
MAX_VIOLATION = 0.01
MOST_PASSES = 8  # over the data
MOST_CLUSTERS_SHOWN = 20

Array = npt.NDArray[Any]


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets assign --input DATA --centers OUT --output FOLDER`; returns the exit code."""
    return options.run_job(argv, "assign", AssignOptions, __doc__ or "", run)


@dataclasses.dataclass(frozen=True)
class AssignOptions(ResultOptions, WindowOptions, DataOptions):
    """The options of `assign`."""

    centers: str = declare(None, "the --output folder of summarize, solve, rollup or stream")
    latest: bool = declare(False, "by the newest window of --centers that has centers")
    max_violation: float = declare(
        MAX_VIOLATION,
        "with a constraint: prices are narrowed until no bound is missed by more, relative to it",
    )
    seed: int = declared_as(PlanParameters, "seed", 0, help="of the rows that prices are found on")
    output: str = declare(
        None, "folder for the files, on any Beam filesystem; rows go to assigned/ in it", group="results"
    )
    format: str = declared_as(ResultOptions, "format", "parquet")


@dataclasses.dataclass(frozen=True)
class Clusters:
    """What an earlier run has found: the clusters that rows are to be given.

    Attributes:
      centers: (k, d) float64, in the units that rows are measured in.
      bases: (k, r, d) of subspaces; None for centers.
      z, metric: of the costs.
      constraint: what they were solved under, if anything.
      scale: how columns had been scaled, if they had.
      columns: names of the coordinates, if they had some.
      outliers: the weight that they left out.
    """

    centers: Array
    bases: Array | None
    z: float
    metric: Any
    constraint: Constraint | None
    scale: Scale | None
    columns: Sequence[str] | None = None
    outliers: float = 0.0

    @property
    def power(self) -> float:
        """What distances are raised to in costs."""
        return self.z / 2 if self.metric == "cosine" else self.z

    @property
    def nearest(self) -> Nearest:
        """Rows to clusters without a constraint."""
        model: Model = Centers(self.centers, self.z, self.metric)
        if self.bases is not None:
            model = Subspaces(self.centers, self.bases, affine=True)  # or not: their centers are where they have to be
        return Nearest(model, self.z, self.metric)


@dataclasses.dataclass(frozen=True)
class AssignJob:
    """The data and where its rows go.

    Attributes:
      known, beam_options: the options.
      clusters: which rows are to be given.
      source: the data.
      console: shows how far it is.
    """

    known: AssignOptions
    beam_options: PipelineOptions
    clusters: Clusters
    source: ReadBlocks
    console: Terminal

    def survey(self, surveyor: Surveyor) -> Survey:
        """One pass over all rows."""
        found, _ = combine_blocks(
            self.known, self.beam_options, self.clusters.scale, self.console, self.known.output, SurveyRows(surveyor),
            self.known.max_bad_rows,
        )  # fmt: skip
        survey: Survey = found
        return survey

    def write(self, membership: Membership) -> dict[str, Array]:
        """Writes all rows; label -> (3, k): weight, rows and cost in each cluster."""
        known, clusters = self.known, self.clusters
        pipeline, result = beam.Pipeline(options=self.beam_options), Result(self.beam_options, known.output)
        blocks, letters = blocks_of(known, pipeline, clusters.scale)
        few_refused = gate(letters, known.max_bad_rows)
        rows = blocks | "AssignRows" >> AssignRows(membership, names=row_names(self.source.files))
        sizes = SizesOfClusters(membership.k, clusters.power, bool(known.group_column))
        result.keep(rows | "Sizes" >> beam.CombineGlobally(sizes), *few_refused)
        _ = rows | "Write" >> WriteAssigned(known.output, known.format, few_refused)
        _ = letters | "WriteDeadLetters" >> WriteDeadLetters(known.output, known.format)
        launch.run(pipeline, 1, self.console.aside)
        found: dict[str, Array] = result.get()
        return found


def run(known: AssignOptions, beam_options: PipelineOptions, console: Terminal) -> int:
    """Assigns, writes and shows; returns the exit code.

    Raises:
      ValueError: something that can't work.
      JobError: a pass over the data failed; an old result in --output is as it was.
    """
    options.require(known, "input", "centers", "output")
    require_apart(known.output, folders=[known.centers])
    if known.latest and (known.start, known.end) != (None, None):
        raise ValueError("latest: must be left out with --from and --to, got both")
    known, said = dated([known.centers], known, "centers")
    show.notes(said, console)
    with reading([known.centers]):
        clusters = read_clusters(known)
    if known.metric not in (None, clusters.metric):
        raise ValueError(f"metric: must be that of the centers, {clusters.metric}, got {known.metric}")
    if known.scale != "none":
        raise ValueError(f"scale: must be left to the centers' scale.json, got {known.scale!r}")
    if not known.max_violation >= 0:
        raise ValueError(f"max_violation: must be at least 0, got {known.max_violation}")
    known = dataclasses.replace(known, metric=clusters.metric)
    if clusters.constraint is not None and clusters.constraint.labelled:
        options.require(known, "group_column")
    known, source = source_by_name(known, clusters.columns, clusters.centers.shape[1], "the centers")
    show.notes(source.notes, console)
    source.require_rows()
    require_apart(known.output, known.input)
    began = time.monotonic()
    with owning(known.output, known.overwrite, "assign") as place:
        job = AssignJob(dataclasses.replace(known, output=place.folder), beam_options, clusters, source, console)
        if clusters.constraint is None:
            sizes, bounds, passes = job.write(clusters.nearest), None, 1
        else:
            sizes, bounds, passes = _constrained(job, clusters.constraint)
        _write_csv(place.folder, sizes, bounds)
    elapsed = time.monotonic() - began
    console.answer("assign", output=known.output, seconds=elapsed, passes=passes, **_as_json(clusters, sizes, bounds))
    _show(known, clusters, sizes, bounds, passes, elapsed, console)
    return 0


def read_clusters(known: AssignOptions) -> Clusters:
    """The centers in the folder --centers.

    Raises:
      ValueError: there are none, or those of several windows or keys.
    """
    rows = newest([known.centers], known, "centers")
    found = []
    for identity, table in parts_of([known.centers], rows, "centers", "centers"):
        centers = sorted((c for c in table.to_pylist() if c["index"] is not None), key=lambda c: c["index"])
        if centers:
            found.append((rows[identity], centers))
    if known.latest and found:
        last = max(row["window_end"] or 0.0 for row, _ in found)
        found = [(row, centers) for row, centers in found if (row["window_end"] or 0.0) == last]
    if len(found) != 1:
        many = f"{len(found)} (choose by --latest, --from, --to and --keys)" if found else "none"
        raise ValueError(f"centers: must be those of one window and key, got {many} in {known.centers!r}")
    ((row, centers),) = found
    scale = read_scale(known.centers, row["columns"])
    points = np.array([c["coordinates"] for c in centers], np.float64)
    bases = None
    if row["r"]:
        bases = np.array([c["basis"] for c in centers], np.float64).reshape(len(centers), -1, points.shape[1])
        bases = bases if scale is None else scale.apply_bases(bases)
    return Clusters(
        points if scale is None else scale.apply(points),
        bases,
        row["z"],
        row["metric"],
        None if row["constraint_text"] is None else Constraint.parse(row["constraint_text"]),
        scale,
        row["columns"],
        row["outliers"] or 0.0,
    )


def _constrained(job: AssignJob, constraint: Constraint) -> tuple[dict[str, Array], Bounds | None, int]:
    """Finds prices and writes, until the sizes are those that were asked for; also the number of passes.

    Data without weight has no bounds.

    Raises:
      ValueError: the data can't meet the constraint.
    """
    k, dim = job.clusters.centers.shape
    surveyor = Surveyor(k, sample_size(k, dim), constraint.labelled, seed=job.known.seed)
    survey, passes = job.survey(surveyor), 1
    if not len(survey.points):
        return job.write(job.clusters.nearest), None, 2
    bounds = constraint.bounds(survey.labels, survey.label_weights, k)
    bounds.check()
    shape = job.clusters.centers, job.clusters.z, job.clusters.metric
    priced = reprice(survey, constraint, *shape)
    reach = reach_of(priced, survey)
    while True:
        if not survey.complete:
            before = priced
            survey = job.survey(dataclasses.replace(surveyor, priced=before, reach=reach))
            priced, passes = reprice(survey, constraint, *shape, before, reach), passes + 1
            reach = narrowed(reach, before, priced)
        sizes, passes = job.write(priced), passes + 1
        missed = bounds.violation(table_of(sizes, bounds.labels))
        if missed <= job.known.max_violation or survey.complete or passes > MOST_PASSES:
            return sizes, bounds, passes
        FileSystems.delete([path for name in (FOLDER, "dead_letters") for path in files_of(job.known.output, name)])


def sample_size(k: int, dim: int) -> int:
    """How many rows prices are found on at a time."""
    return min(max(SAMPLE_ROWS, SAMPLE_COSTS // k), SAMPLE_BYTES // (4 * dim))


def table_of(sizes: dict[str, Array], labels: tuple[str, ...]) -> Array:
    """The weight (m, k) of each label in each cluster; of all together where the only label is ""."""
    if labels == ("",):
        return np.asarray(sum(counts[0] for counts in sizes.values()))[None]
    return np.array([sizes[label][0] for label in labels])


def _write_csv(output: str, sizes: dict[str, Array], bounds: Bounds | None) -> None:
    """`sizes.csv`, a row a cluster and label; and `bounds.csv`, a row a bound."""
    rows = [
        (cluster, label, int(rows), f"{weight:.12g}", f"{cost:.12g}")
        for label, counts in sorted(sizes.items()) for cluster, (weight, rows, cost) in enumerate(counts.T)
    ]  # fmt: skip
    _csv(FileSystems.join(output, "sizes.csv"), ("cluster", "label", "rows", "weight", "cost"), rows)
    if bounds is not None:
        missed = violations(bounds, table_of(sizes, bounds.labels))
        numbers = ([f"{number:.12g}" for number in array] for array in (bounds.low, bounds.high, missed))
        told = zip(bounds.names, bounds.cluster.tolist(), *numbers, strict=True)
        header = ("bound", "cluster", "low", "high", "violation")
        _csv(FileSystems.join(output, "bounds.csv"), header, list(told))


def _csv(path: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_once(path, text.getvalue().encode())


def _totals(sizes: dict[str, Array], clusters: Clusters) -> Array:
    """(3, k): weight, rows and cost of each cluster, of all labels."""
    return np.asarray(np.sum(list(sizes.values()), axis=0) if sizes else np.zeros((3, len(clusters.centers))))


def _as_json(clusters: Clusters, sizes: dict[str, Array], bounds: Bounds | None) -> dict[str, Any]:
    """What --json prints: the totals, each cluster, and how the constraint is kept to."""
    weight, rows, cost = _totals(sizes, clusters)
    numbers = zip(rows.tolist(), weight.tolist(), cost.tolist(), strict=True)
    each = [{"cluster": i, "rows": int(n), "weight": w, "cost": c} for i, (n, w, c) in enumerate(numbers)]
    found = {"rows": int(rows.sum()), "weight": weight.sum(), "cost": cost.sum(), "clusters": each}
    if bounds is None or clusters.constraint is None:
        return found
    worst = violations(bounds, table_of(sizes, bounds.labels)).max(initial=0.0)
    return {**found, "constraint": clusters.constraint.text(), "violation": worst}


def _show(
    known: AssignOptions, clusters: Clusters, sizes: dict[str, Array], bounds: Bounds | None, passes: int,
    seconds: float, console: Terminal,
) -> None:  # fmt: skip
    weight, rows, cost = _totals(sizes, clusters)
    left_out = f"   (outliers, too: {show.number(clusters.outliers)} were left out)" if clusters.outliers else ""
    lines = [("rows", f"{rows.sum():,.0f}   total weight {show.number(weight.sum())}"),
             ("cost", show.number(cost.sum()) + left_out)]  # fmt: skip
    if bounds is not None and clusters.constraint is not None:
        missed = violations(bounds, table_of(sizes, bounds.labels))
        worst = missed.max(initial=0.0)
        colour = "yellow" if worst > known.max_violation else "default"
        lines.append(("constraint", escape(clusters.constraint.text())))
        lines.append(("violation", f"[{colour}]{worst:.3%} at most[/]" + _by_name(bounds, missed)))
    lines.append(("speed", show.speed(rows.sum(), seconds) + (f", {passes} passes" if passes > 1 else "")))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in lines:
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("cluster", "rows", "weight", "share", "cost"):
        table.add_column(name, justify="right")
    heaviest = np.argsort(-weight, kind="stable")
    for i in heaviest[:MOST_CLUSTERS_SHOWN].tolist():
        share = weight[i] / max(weight.sum(), 1e-300)
        table.add_row(str(i), f"{rows[i]:,.0f}", show.number(weight[i]), f"{share:.2%}", show.number(cost[i], 4))
    console.print(table, highlight=False)
    if len(weight) > MOST_CLUSTERS_SHOWN:
        console.print(f"... and {len(weight) - MOST_CLUSTERS_SHOWN} more", highlight=False)
    files = ", ".join(["assigned", "sizes.csv"] + (["bounds.csv"] if bounds is not None else []))
    refused = "; refused rows in dead_letters" if files_of(known.output, "dead_letters") else ""
    console.print(f"\nIn {escape(known.output)}: {files}{refused}", highlight=False, soft_wrap=True)


def _by_name(bounds: Bounds, missed: Array) -> str:
    """The worst miss of each constraint, and where it is."""
    told = []
    for name in dict.fromkeys(bounds.names):
        own = [i for i, other in enumerate(bounds.names) if other == name]
        worst = max(own, key=lambda i: missed[i])
        place = f" (cluster {bounds.cluster[worst]})" if missed[worst] >= 5e-6 else ""
        told.append(f"{escape(name)} {missed[worst]:.3%}{place}")
    return f": {', '.join(told)}" if told else ""


if __name__ == "__main__":
    ending.run_and_leave(main)
