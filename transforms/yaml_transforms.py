"""Summarize and SummarizeStream for Beam YAML: options are plain values, rows come in, named outputs of rows go out.

The options are the fields of the objects that the transforms take (`Plan`, `Columns`, `Patience`, `StreamPlan`), under
the same names; lists stand for tuples, and texts such as "5s" for lengths of time.
"""
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.periodicsequence import PeriodicImpulse

from beam_coresets.datasets.synthetic import GaussianMixture
from beam_coresets.declared import Seconds, declare, declared_as, of_values, parameters, part_of
from beam_coresets.parameters.plan import Plan, PlanParameters
from beam_coresets.parameters.stream_plan import StreamParameters
from beam_coresets.tables import TABLE_FORMATS
from beam_coresets.transforms.base.display import shown
from beam_coresets.transforms.reading.columns import ColumnParameters, Columns
from beam_coresets.transforms.summarize import Summaries, Summarize
from beam_coresets.transforms.summarize_stream import SummarizeUnbounded
from beam_coresets.transforms.writing.claims import order_of
from beam_coresets.transforms.writing.records import ROWS
from beam_coresets.transforms.writing.sinks import WriteSummaries

_TICK = 0.1  # seconds between two bundles of generated points


@dataclasses.dataclass(frozen=True)
class YamlBatchOptions(ColumnParameters, PlanParameters):
    """What `SummarizeInYaml` takes."""

    reference: str | None = declare(None, "an output folder, with whose last window each is compared")


@dataclasses.dataclass(frozen=True)
class YamlStreamOptions(StreamParameters, ColumnParameters, PlanParameters):
    """What `SummarizeStreamInYaml` takes."""

    reference: str | None = declared_as(YamlBatchOptions, "reference", None)
    every: Seconds = declare(1.0, "the time between two reports of a shard")
    output: str | None = declare(None, "a folder for the tables")
    format: str = declare("", "of the tables (default: parquet)", choices=TABLE_FORMATS)


BATCH_OPTIONS = parameters(YamlBatchOptions)
STREAM_OPTIONS = tuple(
    each for each in parameters(YamlStreamOptions) if each.name not in ("max_bad_rows", "drop_shards")
)


def _outputs(result: Summaries) -> dict[str, PCollection]:
    tables = {name: getattr(result, name) for name in ROWS if getattr(result, name) is not None}
    # Beam's file sinks lose rows that come to them at the end of a bundle, as the last ones do.
    return {**tables, "dead_letters": result.dead_letters | "Apart from reading" >> beam.Reshuffle()}


class SummarizeInYaml(beam.PTransform):
    """Rows -> {summaries, centers, coreset, columns, dead_letters}: `Summarize` for Beam YAML.

    With `weak` there are also candidates, and with `outliers` these.

    Args:
      options: the fields of `YamlBatchOptions`: those of `Plan` (but for constraints) and of `Columns` (but for the
        header), and `reference`, an output folder.

    Raises:
      ValueError: an unknown option, or what can't work, as `name: requirement, got value`.

    Source: `Summarize`.

    Example:
      tables = rows | SummarizeInYaml(k=4, shards=5, columns=["x", "y", "z"])
      tables["centers"] | beam.Map(print)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        given = of_values(BATCH_OPTIONS, options)
        self._options = options
        self._summarize = Summarize(
            Plan(**part_of(Plan, given)), Columns(**part_of(Columns, given)), reference=given.get("reference")
        )

    def expand(self, rows: PCollection[Any]) -> "dict[str, PCollection]":
        return _outputs(rows | "Summarize" >> self._summarize)

    def display_data(self) -> dict[str, Any]:
        return shown(**self._options)


class SummarizeStreamInYaml(beam.PTransform):
    """Rows with event times -> {summaries, centers, coreset, columns, late, dead_letters}: `SummarizeUnbounded` for
    Beam YAML.

    Args:
      options: the fields of `Plan`, `Columns` and `Patience` (min_shards is half of the shards by default); `window`
        as "60s" (default), "60s/5s" or "global/30s"; `disorder` and `half_life` of `StreamPlan`; `every`, the time
        between two reports of a shard; `key_column` with `key_groups`; `reference`, an output folder whose last window
        all are compared with; `output`, a folder for the tables, in `format`.
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
        given = of_values(STREAM_OPTIONS, options)
        self._options = options
        asked = YamlStreamOptions(**given)
        keyed = asked.key_column is not None
        self._stream = asked.stream_of(Plan(**part_of(Plan, given)), keyed)
        self._write = None
        if asked.output is not None:
            wanted = order_of(self._stream.plan.weak, bool(self._stream.plan.outliers))
            self._write = WriteSummaries(asked.output, asked.format or TABLE_FORMATS[0], wanted)
        elif asked.format:
            raise ValueError(f"format: must be left out without output, got {asked.format!r}")
        self._summarize = SummarizeUnbounded(
            self._stream, Columns(**part_of(Columns, given)), asked.every, asked.key_column,
            claims=None if self._write is None else self._write.claims, reference=asked.reference,
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


@dataclasses.dataclass(frozen=True)
class _Generated:
    rate: int = declare(1000, "points a second")
    dim: int = declare(8, "coordinates of a point")
    clusters: int = declare(20, "that points are of")
    seed: int = declare(0, "of the mixture")


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

    def __init__(
        self, rate: int = _Generated.rate, dim: int = _Generated.dim, clusters: int = _Generated.clusters,
        seed: int = _Generated.seed,
    ) -> None:  # fmt: skip
        super().__init__()
        self._options = {"rate": rate, "dim": dim, "clusters": clusters, "seed": seed}
        of_values(parameters(_Generated), self._options)
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
