"""WriteSummaries: the tables of each window and revision, of the decision that came first; and reading them back."""
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_coresets.results.summary import Summary
from beam_coresets.transforms.writing.claims import WANTED, Claims


class Written(NamedTuple):
    """What `WriteSummaries` returns.

    Attributes:
      paths: of the files of claimed decisions.
      claimed: the Summaries whose decision is the claimed one. Once each, and again where a runner tries again.
      windows: (replica, Window) of every Summary that came, dropped or not; all of them have a claimed decision by now.
    """

    paths: PCollection
    claimed: PCollection
    windows: PCollection


@beam.typehints.with_input_types(Summary)
class WriteSummaries(beam.PTransform):
    """Summaries -> `Written`: the first decision of a window and revision is put in the tables, others are dropped.

    Args:
      output: a folder on a filesystem with an atomic create; the tables become folders in it (see
        `beam_coresets.transforms.writing.claims`).
      form: "parquet", "avro" or "jsonl".
      wanted: which tables; by default all but `candidates` and `outliers`.

    Raises:
      ValueError: an unknown format, or a filesystem on which the first decision can't be told.

    Source: `Claims`: a decision is claimed by the atomic create of one file.

    Example:
      result = blocks | Summarize(k=4, shards=5)
      result.decided | WriteSummaries("out", "parquet")
    """

    def __init__(self, output: str, form: str = "parquet", wanted: tuple[str, ...] = WANTED) -> None:
        super().__init__()
        self.claims = Claims(output, form, wanted)

    def expand(self, summaries: PCollection[Summary]) -> "Written":
        done = summaries | "Write tables" >> beam.ParDo(_WriteTables(self.claims)).with_outputs(
            "claimed", "windows", main="paths"
        )
        return Written(done.paths, done.claimed, done.windows)

    def display_data(self) -> dict[str, Any]:
        return {"output": self.claims.output, "format": self.claims.form, "tables": ", ".join(self.claims.wanted)}


class _WriteTables(beam.DoFn):
    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._written = Metrics.counter("beam_coresets", "files_written")
        self._claimed = Metrics.counter("beam_coresets", "decisions_claimed")
        self._dropped = Metrics.counter("beam_coresets", "decisions_dropped")

    def process(self, summary: Summary) -> Iterator[Any]:
        FileSystems.report_sink_lineage(self._claims.output)
        if self._claims.publish(summary):
            self._claimed.inc()
            for path in self._claims.paths(summary.window):
                self._written.inc()
                yield path
            yield TaggedOutput("claimed", summary)
        else:
            self._dropped.inc()
        yield TaggedOutput("windows", (summary.replica, summary.window))
