"""Summarize and SummarizeStream for Beam YAML: options are plain values, rows come in, named outputs of rows go out.

The options are the fields of the objects that the transforms take (`Plan`, `Columns`, `Patience`, `StreamPlan`), under
the same names; lists stand for tuples, and texts such as "5s" for lengths of time.
"""
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.periodicsequence import PeriodicImpulse

from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan, most_of
from beam_coresets.streaming.trigger import Patience
from beam_coresets.streaming.windows import WindowSpec, seconds
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.summarize import Summaries, Summarize
from beam_coresets.transforms.summarize_stream import SummarizeUnbounded
from beam_coresets.transforms.writing.claims import ORDER, WEAK_ORDER
from beam_coresets.transforms.writing.records import ROWS
from beam_coresets.transforms.writing.sinks import WriteSummaries

KEY_GROUPS = 4
_TICK = 0.1  # seconds between two bundles of generated points
_OF_BATCH = ("max_bad_rows", "drop_shards")

Length = typing.NewType("Length", float)  # of time: seconds, or a text such as "500ms"
_WHAT = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _fields(kind: Any, *left_out: str) -> dict[str, Any]:
    """The fields of a dataclass with their types."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.name not in left_out}


def _times(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The same where every number with a fraction is a length of time."""
    return {name: Length if kind is float else kind for name, kind in kinds.items()}


BATCH_OPTIONS = {**_fields(Plan, "constraint"), **_fields(Columns, "header")}
STREAM_OPTIONS = {
    **{name: kind for name, kind in BATCH_OPTIONS.items() if name not in _OF_BATCH},
    **_times(_fields(Patience)),
    "window": str,
    "disorder": Length,
    "half_life": Length | None,
    "every": Length,
    "key_column": str | None,
    "key_groups": int,
    "output": str | None,
    "format": str,
}


def read_options(given: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the fields of their dataclasses take them; those that are None are left out.

    Args:
      given: what the YAML says.
      kinds: the options there are, and their types.

    Raises:
      ValueError: an unknown option, or a value of another type.
    """
    strangers = [name for name in given if name not in kinds]
    if strangers:
        names = ", ".join(sorted(kinds))
        raise ValueError(f"{strangers[0]}: must be one of the options ({names}), got {given[strangers[0]]!r}")
    return {name: _read(name, kinds[name], value) for name, value in given.items() if value is not None}


def _read(name: str, kind: Any, value: Any) -> Any:
    kind = _without_none(kind)
    if kind is Length:
        return _length(name, value)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(f"{name}: must be a list, got {value!r}")
        return tuple(_read(name, typing.get_args(kind)[0], item) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name}: must be {_WHAT[kind]}, got {value!r}")
    return value


def _without_none(kind: Any) -> Any:
    if not isinstance(kind, types.UnionType) and typing.get_origin(kind) is not typing.Union:
        return kind
    return next(each for each in typing.get_args(kind) if each is not types.NoneType)


def _length(name: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return seconds(value)
    except (ValueError, AttributeError):
        raise ValueError(f"{name}: must be a time such as 500ms, 5s or 2m, got {value!r}") from None


def _part(kind: Any, given: Mapping[str, Any]) -> Any:
    """A dataclass made of those of its fields that are given."""
    return kind(**{field.name: given[field.name] for field in dataclasses.fields(kind) if field.name in given})


def _plan(given: Mapping[str, Any]) -> Plan:
    if "k" not in given and given.get("summary") != "pca":
        raise ValueError("k: must be given, got nothing")
    plan: Plan = _part(Plan, {"k": 1, **given})
    return plan


def _outputs(result: Summaries) -> dict[str, PCollection]:
    tables = {name: getattr(result, name) for name in ROWS if getattr(result, name) is not None}
    # Beam's file sinks lose rows that come to them at the end of a bundle, as the last ones do.
    return {**tables, "dead_letters": result.dead_letters | "Apart from reading" >> beam.Reshuffle()}


class SummarizeInYaml(beam.PTransform):
    """Rows -> {summaries, centers, coreset, dead_letters}, with `weak` also candidates: `Summarize` for Beam YAML.

    Args:
      options: the fields of `Plan` (but for the constraint) and of `Columns` (but for the header).

    Raises:
      ValueError: an unknown option, or what can't work, as `name: requirement, got value`.

    Source: `Summarize`.

    Example:
      tables = rows | SummarizeInYaml(k=4, shards=5, columns=["x", "y", "z"])
      tables["centers"] | beam.Map(print)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        given = read_options(options, BATCH_OPTIONS)
        self._options = options
        self._summarize = Summarize(_plan(given), _part(Columns, given))

    def expand(self, rows: PCollection[Any]) -> "dict[str, PCollection]":
        return _outputs(rows | "Summarize" >> self._summarize)

    def display_data(self) -> dict[str, Any]:
        return shown(**self._options)


class SummarizeStreamInYaml(beam.PTransform):
    """Rows with event times -> {summaries, centers, coreset, late, dead_letters}: `SummarizeUnbounded` for Beam YAML.

    Args:
      options: the fields of `Plan`, `Columns` and `Patience` (min_shards is half of the shards by default); `window`
        as "60s" (default), "60s/5s" or "global/30s"; `disorder` and `half_life` of `StreamPlan`; `every`, the time
        between two reports of a shard; `key_column` with `key_groups`; `output`, a folder for the tables, in `format`.
        With it, decisions are claimed there before they are an output, so that a restart changes none.

    Raises:
      ValueError: an unknown option, or what can't work, as `name: requirement, got value`.

    Source: `SummarizeUnbounded`.

    Example (a stream without an end):
      tables = rows | SummarizeStreamInYaml(k=4, shards=5, columns=["x", "y", "z"], window="5s")
      tables["centers"] | beam.Map(print)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        given = read_options(options, STREAM_OPTIONS)
        self._options = options
        self._stream = _stream_plan(given)
        self._write = None
        if "output" in given:
            wanted = WEAK_ORDER if self._stream.plan.weak else ORDER
            self._write = WriteSummaries(given["output"], given.get("format", "avro"), wanted)
        elif "format" in given:
            raise ValueError(f"format: must be left out without output, got {given['format']!r}")
        self._summarize = SummarizeUnbounded(
            self._stream, _part(Columns, given), given.get("every", 1.0), given.get("key_column"),
            claims=None if self._write is None else self._write.claims,
        )  # fmt: skip

    def expand(self, rows: PCollection[Any]) -> "dict[str, PCollection]":
        result = rows | "Summarize" >> self._summarize
        decided = result.decided
        if self._write is not None:
            decided = (decided | "Write" >> self._write).claimed
        tables = Summaries.of(decided, result.dead_letters, tuple(ROWS), self._stream.plan)
        return {**_outputs(tables), "late": result.late}

    def display_data(self) -> dict[str, Any]:
        return shown(**self._options)


def _stream_plan(given: Mapping[str, Any]) -> StreamPlan:
    keyed = "key_column" in given
    if "key_groups" in given and not keyed:
        raise ValueError(f"key_groups: must be left out without key_column, got {given['key_groups']}")
    plan = _plan(given)
    windows = WindowSpec.parse(given.get("window", "60s"))
    patience = _part(Patience, {"min_shards": most_of(plan.shards), **given})
    groups = given.get("key_groups", KEY_GROUPS) if keyed else 1
    of_stream = {"disorder": given["disorder"]} if "disorder" in given else {}
    return StreamPlan(
        plan, windows, patience, groups=groups, half_life=given.get("half_life"), quick=keyed, **of_stream
    )


class GeneratedRow(NamedTuple):
    """A generated point."""

    point: Sequence[float]


beam.coders.registry.register_coder(GeneratedRow, beam.coders.RowCoder)


class GeneratePointsInYaml(beam.PTransform):
    """Begin -> GeneratedRows, `rate` a second, for ever, with the time of their making: to try a stream out.

    Args:
      rate: points a second.
      dim, clusters, seed: see `GaussianMixture`.

    Raises:
      ValueError: a number that can't be.

    Source: `beam_coresets.datasets.synthetic.GaussianMixture`.

    Example (a stream without an end):
      p | GeneratePointsInYaml(rate=100, dim=2) | beam.Map(print)
    """

    _yaml_requires_inputs = False

    def __init__(self, rate: int = 1000, dim: int = 8, clusters: int = 20, seed: int = 0) -> None:
        super().__init__()
        self._options = {"rate": rate, "dim": dim, "clusters": clusters, "seed": seed}
        read_options(self._options, dict.fromkeys(self._options, int))
        if rate < 1 / _TICK:
            raise ValueError(f"rate: must be at least {1 / _TICK:g} points a second, got {rate}")
        self._rows, self._mixture = round(rate * _TICK), GaussianMixture(seed=seed, d=dim, k=clusters)

    def expand(self, begin: PBegin) -> PCollection[GeneratedRow]:
        return (
            begin
            | "Ticks" >> PeriodicImpulse(fire_interval=_TICK)
            | "Points" >> beam.FlatMap(_points_at, self._mixture, self._rows).with_output_types(GeneratedRow)
        )

    def display_data(self) -> dict[str, Any]:
        return shown(**self._options)


def _points_at(tick: Any, mixture: GaussianMixture, rows: int) -> Iterator[GeneratedRow]:
    for point in mixture.block(round(float(tick) / _TICK), rows).tolist():
        yield GeneratedRow(point)
