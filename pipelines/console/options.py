"""The options of the commands, and how they become the objects that the transforms take.

A command's options are a dataclass: its fields are declared (`beam_coresets.declared`), here or where they belong, and
what a user gives, on the command line or in a `--config` file, becomes one frozen value of it.
"""
import argparse
import dataclasses
import difflib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from beam_coresets import tables
from beam_coresets.declared import Seconds, add_parameters, declare, declared_as, part_of
from beam_coresets.parameters.plan import Plan, PlanParameters
from beam_coresets.pipelines.console.command_line import Options, Parser, config_of, given_by, parse_alone, parser_of
from beam_coresets.pipelines.console.constraint_options import ConstraintOptions
from beam_coresets.pipelines.console.reference_options import ReferenceOptions
from beam_coresets.pipelines.console.terminal import Spoken, Terminal, TerminalOptions, speaking
from beam_coresets.pipelines.running import launch
from beam_coresets.pipelines.running.local import is_local, local_by_default
from beam_coresets.solvers.constrained.constraints import Constraint
from beam_coresets.transforms.reading.columns import ColumnParameters, Columns
from beam_coresets.transforms.text.dialects import TextParameters


@dataclasses.dataclass(frozen=True)
class ResultOptions(TerminalOptions):
    """Where results go."""

    output: str = declare(None, "folder for the tables, on any Beam filesystem", group="results")
    format: str = declare("parquet", "of the tables", group="results", choices=tables.TABLE_FORMATS)
    overwrite: bool = declare(False, "replace another run's tables in --output", group="results")


@dataclasses.dataclass(frozen=True)
class DataOptions(TextParameters, ColumnParameters):
    """What is read."""

    input: tuple[str, ...] = declare(
        None, "files, folders, globs of Parquet, CSV, JSON lines, Avro, text or .npy files; .gz too", group="data",
        several=True,
    )
    input_format: str | None = declare(
        None, "if the file names don't tell: parquet, csv, jsonl, avro, text, npy", group="data"
    )
    metric: str | None = declared_as(  # type: ignore[assignment]
        ColumnParameters, "metric", None, help="of distances (default: euclidean)"
    )
    no_header: bool = declare(False, "CSV files begin with data; columns are f0, f1, ...", group="text files")
    header: bool = declare(False, "CSV files begin with names, even if these are numbers", group="text files")
    max_bad_rows: int = declared_as(PlanParameters, "max_bad_rows", 0)
    scale: str = declare("none", "bring columns to one scale first", group="data", choices=("none", "standard"))


@dataclasses.dataclass(frozen=True)
class JobOptions(ResultOptions, PlanParameters, DataOptions, ReferenceOptions):
    """What both kinds of job take, that on files and that on streams."""

    max_bad_rows: int = declared_as(PlanParameters, "max_bad_rows", 0)
    min_shards: int | None = declared_as(  # type: ignore[assignment]
        PlanParameters, "min_shards", None,
        help="fewer answers make a degraded row (default: 1; with --streaming half of them)",
    )  # fmt: skip
    metric: str | None = declared_as(DataOptions, "metric", None)  # type: ignore[assignment]
    explain: bool = declare(False, "print scheme, sizes, memory and graph; run nothing", group="results")
    detach: bool = declare(False, "submit and return, without waiting for the result", group="running")


@dataclasses.dataclass(frozen=True)
class SummarizeOptions(ConstraintOptions, JobOptions):
    """The options of `summarize`."""

    shard_readers: bool = declare(
        False, "each shard reads the file parts that it holds: l times as much reading, parts in place of --buckets",
        group="shards that read for themselves",
    )  # fmt: skip
    deadline: Seconds | None = declare(
        None, "with --shard-readers: a shard stops so long after it has begun; with --streaming the answer comes so "
        "long after launch, without shards that are stuck; the parts that a shard has finished count",
        group="shards that read for themselves",
    )  # fmt: skip


class CoresetOptions(PipelineOptions):
    """The options of `summarize` as Beam's own, for who makes a pipeline's options with Beam."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add_parameters(parser, SummarizeOptions, defaults=True)


def check_shard_readers(known: SummarizeOptions, streaming: bool = False) -> None:
    """Raises ValueError for what does not go with or without --shard-readers, and --streaming."""
    if streaming and not known.shard_readers:
        raise ValueError("streaming: must be left out without --shard-readers, got it")
    if streaming and known.detach:
        raise ValueError("detach: must be left out with --streaming (who waits ends the job), got it")
    if streaming and known.epsilon is not None:
        raise ValueError(f"epsilon: must be left out with --streaming, got {known.epsilon:g}")
    if streaming and known.drop_shards and known.deadline is None:
        dropped = ", ".join(map(str, known.drop_shards))
        raise ValueError(f"deadline: must be given with --streaming and --drop-shards {dropped}, got nothing")
    if known.deadline is not None and not known.shard_readers:
        raise ValueError(f"deadline: must be left out without --shard-readers, got {known.deadline:g} s")
    if known.deadline is not None and not known.deadline > 0:
        raise ValueError(f"deadline: must be positive, got {known.deadline:g} s")
    if known.shard_readers and known.scale != "none":
        raise ValueError(f"scale: must be none with --shard-readers, got {known.scale!r}")


def parse(
    argv: Sequence[str] | None, command: str, kind: Callable[..., Options], description: str = ""
) -> tuple[Options, PipelineOptions]:
    """A command's options, and Beam's own from what is left.

    Raises:
      ValueError: a --config file that can't be read or holds what it can't, or an option that is given twice.
    """
    parser = parser_of(command, kind, description)  # type: ignore[arg-type]
    given, rest = given_by(parser, argv)
    _refuse_strays(parser, rest)
    of_beam = _beams()
    beams = tuple(of_beam._option_string_actions)
    file, more = config_of(given.pop("config", None), kind, given, beams, rest)
    rest = [*rest, *more]
    _refuse_misspelt(parser, rest, beams)
    of_beam.parse_known_args(rest)  # a job that is under way would say what is wrong with a value as "SystemExit: 2"
    options = PipelineOptions(rest)
    # Ours is installed on workers by --setup_file or an image; pickling __main__ would only drag this module along.
    options.view_as(SetupOptions).save_main_session = False
    return kind(**{**file, **given}), local_by_default(options)


def run_job(
    argv: Sequence[str] | None, command: str, kind: Callable[..., Spoken], description: str,
    run: Callable[[Spoken, PipelineOptions, Terminal], int],
) -> int:  # fmt: skip
    """What the `main` of a command with a pipeline does: parses, runs, and returns the exit code."""

    def main() -> int:
        known, beam_options = parse(argv, command, kind, description)
        launch.quiet(known.verbose)
        with speaking(known) as console:
            return run(known, beam_options, console)

    return launch.exit_code(main)


def run_alone(
    argv: Sequence[str] | None, command: str, kind: Callable[..., Spoken], description: str,
    run: Callable[[Spoken, Terminal], int], epilog: str = "",
) -> int:  # fmt: skip
    """What the `main` of a command without a pipeline does."""

    def main() -> int:
        known = parse_alone(argv, command, kind, description, epilog)
        launch.quiet(known.verbose)
        with speaking(known) as console:
            return run(known, console)

    return launch.exit_code(main)


def with_folder(argv: Sequence[str] | None, names: Sequence[str] = ("input",)) -> list[str]:
    """The words of a command (by default those it was called with), its first ones, which are no options, named."""
    words = list(sys.argv[1:] if argv is None else argv)
    folders: list[str] = []
    while words and not words[0].startswith("-") and len(folders) < len(names):
        folders.append(words.pop(0))
    return [*(f"--{name}={folder}" for name, folder in zip(names, folders, strict=False)), *words]


def _beams() -> argparse.ArgumentParser:
    """The options that Beam knows."""
    beams = Parser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for group in PipelineOptions.__subclasses__():
        if group is not CoresetOptions:
            group._add_argparse_args(beams)
    for action in beams._actions:
        action.required = False  # Beam itself says so, if it is
    return beams


def _refuse_strays(parser: argparse.ArgumentParser, rest: Sequence[str]) -> None:
    """Stops at a word that no option takes, such as y of `--columns x y`: without it the answer is another."""
    for before, word in zip(["", *rest], rest, strict=False):
        if not word.startswith("-") and (not before.startswith("--") or "=" in before):
            parser.error(f"{word}: must belong to an option, got none that takes it")


def _refuse_misspelt(parser: argparse.ArgumentParser, rest: Sequence[str], beams: Sequence[str]) -> None:
    """Stops at an option that neither we nor Beam have: Beam only warns, and a job without it gives another answer.

    Runners outside of Python have options of their own, so with another runner only near misses of ours stop it.
    """
    elsewhere = not is_local(PipelineOptions(rest))
    for name in (word.split("=")[0] for word in rest if word.startswith("--")):
        if name in beams:
            continue
        close = difflib.get_close_matches(name, parser._option_string_actions, 1, cutoff=0.8 if elsewhere else 0.6)
        if close or not elsewhere:
            hint = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"{name}: must be an option, got none of that name{hint}")


def require(known: Any, *names: str) -> None:
    """Raises ValueError if an option without a default was not given."""
    for name in names:
        if getattr(known, name) is None:
            raise ValueError(f"{name}: must be given (--{name.replace('_', '-')}), got nothing")


def require_k(known: PlanParameters) -> None:
    """Raises ValueError if there is no k, unless principal components are asked for."""
    if known.summary != "pca":
        require(known, "k")


def columns_of(known: DataOptions) -> Columns:
    """The `Columns` of the parsed options."""
    if known.vector_column and not known.metric:
        raise ValueError("metric: must be given with --vector-column (euclidean or cosine), got nothing")
    if known.scale != "none" and known.metric == "cosine":
        raise ValueError(f"scale: must be none with --metric cosine, got {known.scale!r}")
    if known.header and known.no_header:
        raise ValueError("header: must be left out with --no-header, got both")
    asked = {**_asked(Columns, known), "header": False if known.no_header else (known.header or None)}
    return Columns(**asked)


def apart(plan: Plan, domains: tuple[int, ...] | None) -> Plan:
    """The plan, with replicas in different ones of these failure domains, unless it names its own."""
    if domains is None or plan.domains is not None or plan.scheme == "bernoulli":
        return plan
    return dataclasses.replace(plan, domains=domains)


def plan_of(known: JobOptions, constraint: Constraint | None = None) -> Plan:
    """The `Plan` of the parsed options."""
    require_k(known)
    if constraint is not None and constraint.labelled:
        require(known, "group_column")
    return Plan(**_asked(Plan, known), constraint=constraint)


def _asked(kind: type, known: Any) -> dict[str, Any]:
    """The fields of a dataclass that options say something of."""
    asked = {name: value for name, value in vars(known).items() if value is not None}
    return part_of(kind, asked, "constraint", *(("columns",) if kind is Plan else ()))
