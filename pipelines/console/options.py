"""The options that the words of the command line share, and how they become the objects that the transforms take."""
import argparse
import dataclasses
import difflib
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from beam_coresets import tables
from beam_coresets.coordinator import recovery
from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.running.local import is_local, local_by_default
from beam_coresets.sampling import importance
from beam_coresets.shards import assignment, report
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.streaming.windows import seconds
from beam_coresets.transforms.reading.columns import Columns


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be whole numbers separated by commas, got {text!r}") from None


def length_of_time(text: str) -> float:
    """Seconds of "500ms", "5s", "2m"; for argparse."""
    try:
        return seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a time such as 500ms, 5s or 2m, got {text!r}") from None


class CoresetOptions(PipelineOptions):
    """Options of the jobs; names are the same in every word that has them."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_data_options(parser)
        add_plan_options(parser)
        out = parser.add_argument_group("results")
        out.add_argument("--output", help="folder for the tables, on any Beam filesystem")
        out.add_argument("--format", default="avro", choices=tables.TABLE_FORMATS, help="of the tables (default: avro)")
        out.add_argument("--overwrite", action="store_true", help="replace another run's tables in --output")
        out.add_argument("--explain", action="store_true", help="print scheme, sizes, memory and graph; run nothing")
        out.add_argument("--verbose", action="store_true", help="show warnings and whole error reports")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """What is read."""
    data = parser.add_argument_group("data")
    data.add_argument("--input", nargs="+", help="globs: Parquet, CSV, JSON lines, Avro, text or .npy files; .gz too")
    data.add_argument("--input_format", help="if the file names don't tell: parquet, csv, jsonl, avro, text, npy")
    data.add_argument("--columns", type=_names, help="coordinates, comma-separated (default: all numeric columns)")
    data.add_argument("--vector_column", help="one column of vectors instead; asks for --metric")
    data.add_argument("--dim", type=int, help="width of the vectors (default: the most common in the first rows)")
    data.add_argument("--metric", choices=("euclidean", "cosine"), help="default: euclidean")
    data.add_argument("--id_column", help="your own id; it comes back with sampled rows and centers")
    data.add_argument("--weight_column", help="numbers that rows weigh (default: 1 each)")
    data.add_argument("--group_column", help="a label that sampled rows keep")
    data.add_argument("--keep_columns", type=_names, default=[], help="more columns that sampled rows keep")
    data.add_argument("--no_header", action="store_true", help="CSV files begin with data; columns are f0, f1, ...")
    data.add_argument("--max_bad_rows", type=int, default=0, help="rows that may be refused (default: 0)")
    data.add_argument("--scale", choices=("none", "standard"), default="none", help="bring columns to one scale first")


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """What is computed."""
    plan = parser.add_argument_group("summary")
    plan.add_argument("--k", type=int, help="number of centers")
    plan.add_argument("--z", type=float, default=2.0, help="power of the distance: 2 k-means (default), 1 k-median")
    plan.add_argument("--shards", type=int, default=8, help="that rows are assigned to (default: 8)")
    plan.add_argument("--replication", type=int, help="shards that hold each row (default: 2, or --tolerate + 1)")
    plan.add_argument("--tolerate", type=int, help="stragglers that must cost nothing; sets --replication")
    plan.add_argument("--scheme", default="cyclic", choices=assignment.SCHEMES, help="of assignment (default: cyclic)")
    plan.add_argument("--domains", type=_numbers, help="failure domain of each shard, comma-separated")
    plan.add_argument("--buckets", type=int, default=1024, help="that rows are hashed to (default: 1024)")
    plan.add_argument("--coreset_size", type=int, help="points a shard keeps (default: 40 k)")
    plan.add_argument("--method", choices=importance.METHODS, help="default: sensitivity, or subspace with --r")
    plan.add_argument(
        "--recovery", choices=recovery.RECOVERIES, help="default: exact, or lp where shards count as a whole"
    )
    plan.add_argument("--min_shards", type=int, default=1, help="fewer answers make a degraded row")
    plan.add_argument("--drop_shards", type=_numbers, default=[], help="as if these had not answered, e.g. 1,4")
    plan.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    paper = parser.add_argument_group("other algorithms")
    paper.add_argument(
        "--summary", default="coreset", choices=report.SUMMARY_KINDS, help="what shards send (default: coreset)"
    )
    paper.add_argument("--r", type=int, default=0, help="k subspaces of this dimension in place of centers")
    paper.add_argument("--affine", action="store_true", help="with --r: subspaces need not pass through the origin")
    paper.add_argument("--delta", type=float, default=0.1, help="slack of --summary pca (default: 0.1)")
    paper.add_argument("--epsilon", type=float, help="the error that --coreset_size is to be computed for, by theory")
    paper.add_argument(
        "--leftover", default="points", choices=("points", "centers"),
        help="with --method rings_and_groups: who carries the weight of points in no group (default: points)",
    )  # fmt: skip
    paper.add_argument("--weak", action="store_true", help="a universal weak coreset: candidates for centers, too")
    paper.add_argument("--candidates", type=int, help="how many (default: 40 k)")
    paper.add_argument("--audit", action="store_true", help="distrust shards whose points contradict their replicas")


def add_shard_reader_options(parser: argparse.ArgumentParser) -> None:
    """How `summarize` reads."""
    readers = parser.add_argument_group("shards that read for themselves")
    readers.add_argument(
        "--shard_readers", action="store_true",
        help="each shard reads the file parts that it holds: l times as much reading, parts in place of --buckets",
    )  # fmt: skip
    readers.add_argument(
        "--deadline", type=length_of_time,
        help="with --shard_readers: a shard stops so long after it has begun; with --streaming the answer comes so "
             "long after launch, without shards that are stuck; the parts that a shard has finished count",
    )  # fmt: skip
    readers.add_argument("--detach", action="store_true", help="submit and return, without waiting for the result")
    parser.set_defaults(min_shards=None)  # 1; half of the shards with --streaming


def check_shard_readers(known: argparse.Namespace, streaming: bool = False) -> None:
    """Raises ValueError for what does not go with or without --shard_readers, and --streaming."""
    if streaming and not known.shard_readers:
        raise ValueError("streaming: must be left out without --shard_readers, got it")
    if streaming and known.detach:
        raise ValueError("detach: must be left out with --streaming (who waits ends the job), got it")
    if streaming and known.epsilon is not None:
        raise ValueError(f"epsilon: must be left out with --streaming, got {known.epsilon:g}")
    if streaming and known.drop_shards and known.deadline is None:
        dropped = ", ".join(map(str, known.drop_shards))
        raise ValueError(f"deadline: must be given with --streaming and --drop_shards {dropped}, got nothing")
    if known.deadline is not None and not known.shard_readers:
        raise ValueError(f"deadline: must be left out without --shard_readers, got {known.deadline:g} s")
    if known.deadline is not None and not known.deadline > 0:
        raise ValueError(f"deadline: must be positive, got {known.deadline:g} s")
    if known.shard_readers and known.scale != "none":
        raise ValueError(f"scale: must be none with --shard_readers, got {known.scale!r}")


def parser_of(
    command: str,
    description: str,
    more: Sequence[Callable[[argparse.ArgumentParser], None]] = (),
    base: Callable[[argparse.ArgumentParser], None] = CoresetOptions._add_argparse_args,
) -> argparse.ArgumentParser:
    """The parser of a word's own options: those of `base` and what `more` adds."""
    parser = argparse.ArgumentParser(
        prog=f"beam-coresets {command}",
        description=description,
        epilog="Other options go to Beam: --runner, --direct_num_workers, --flink_master, ...",
        allow_abbrev=False,
    )
    for add in (base, *more):
        add(parser)
    return parser


def parse(
    argv: Sequence[str] | None,
    command: str,
    description: str,
    more: Sequence[Callable[[argparse.ArgumentParser], None]] = (),
    base: Callable[[argparse.ArgumentParser], None] = CoresetOptions._add_argparse_args,
) -> tuple[argparse.Namespace, PipelineOptions]:
    """The options that `parser_of` has, and Beam's own from what is left."""
    parser = parser_of(command, description, more, base)
    known, rest = parser.parse_known_args(argv)
    known.default = parser.get_default
    _refuse_misspelt(parser, rest)
    options = PipelineOptions(rest)
    # Ours is installed on workers by --setup_file or an image; pickling __main__ would only drag this module along.
    options.view_as(SetupOptions).save_main_session = False
    return known, local_by_default(options)


def _refuse_misspelt(parser: argparse.ArgumentParser, rest: Sequence[str]) -> None:
    """Stops at an option that neither we nor Beam have: Beam only warns, and a job without it gives another answer.

    Runners outside of Python have options of their own, so with another runner only near misses of ours stop it.
    """
    beams = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(beams)
    elsewhere = not is_local(PipelineOptions(rest))
    for name in (word.split("=")[0] for word in rest if word.startswith("--")):
        if name in beams._option_string_actions:
            continue
        close = difflib.get_close_matches(name, parser._option_string_actions, 1, cutoff=0.8 if elsewhere else 0.6)
        if close or not elsewhere:
            hint = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"{name}: must be an option, got none of that name{hint}")






def require(known: argparse.Namespace, *names: str) -> None:
    """Raises ValueError if an option without a default was not given."""
    for name in names:
        if getattr(known, name) is None:
            raise ValueError(f"{name}: must be given (--{name}), got nothing")


def require_k(known: argparse.Namespace) -> None:
    """Raises ValueError if there is no k, unless principal components are asked for."""
    if known.summary != "pca":
        require(known, "k")


def columns_of(known: argparse.Namespace) -> Columns:
    """The `Columns` of the parsed options."""
    if known.vector_column and not known.metric:
        raise ValueError("metric: must be given with --vector_column (euclidean or cosine), got nothing")
    if known.scale != "none" and known.metric == "cosine":
        raise ValueError(f"scale: must be none with --metric cosine, got {known.scale!r}")
    return Columns(
        columns=known.columns,
        vector_column=known.vector_column,
        metric=known.metric or "euclidean",
        weight_column=known.weight_column,
        id_column=known.id_column,
        group_column=known.group_column,
        keep_columns=tuple(known.keep_columns),
        header=not known.no_header,
        dim=known.dim,
    )


def apart(plan: Plan, domains: tuple[int, ...] | None) -> Plan:
    """The plan, with replicas in different ones of these failure domains, unless it names its own."""
    if domains is None or plan.domains is not None or plan.scheme == "bernoulli":
        return plan
    return dataclasses.replace(plan, domains=domains)


def plan_of(known: argparse.Namespace, constraint: Constraint | None = None) -> Plan:
    """The `Plan` of the parsed options."""
    require_k(known)
    if constraint is not None and constraint.labelled:
        require(known, "group_column")
    if known.tolerate is not None and known.tolerate < 0:
        raise ValueError(f"tolerate: must be at least 0, got {known.tolerate}")
    replication: Any = known.replication
    if replication is None:
        replication = min(2, known.shards) if known.tolerate is None else known.tolerate + 1
    elif known.tolerate is not None and replication <= known.tolerate:
        raise ValueError(f"replication: must exceed tolerate = {known.tolerate}, got {replication}")
    return Plan(
        k=1 if known.k is None else known.k,
        shards=known.shards,
        replication=replication,
        scheme=known.scheme,
        z=known.z,
        metric=known.metric or "euclidean",
        method=known.method or "",
        coreset_size=known.coreset_size,
        recovery=known.recovery or "",
        buckets=known.buckets,
        domains=known.domains,
        min_shards=1 if known.min_shards is None else known.min_shards,
        drop_shards=tuple(known.drop_shards),
        max_bad_rows=known.max_bad_rows,
        seed=known.seed,
        summary=known.summary,
        r=known.r,
        affine=known.affine,
        delta=known.delta,
        leftover=known.leftover,
        epsilon=known.epsilon,
        weak=known.weak,
        candidates=known.candidates,
        audit=known.audit,
        constraint=constraint,
    )
