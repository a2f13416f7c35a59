"""Emitted centers as a model of Beam's RunInference, and as a detector of Beam's AnomalyDetection.

    points | RunInference(CentersModelHandler("out"))       # PredictionResult: the example and its RowScore
    rows | AnomalyDetection(centers_detector("out", threshold_criterion=FixedThreshold(3)))
"""
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, PredictionResult

from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.python_rows import fields_of
from beam_coresets.transforms.rows.latest_window import LatestWindow, RowScore, scores_of

_NOTHING = RowScore()


class CentersModelHandler(ModelHandler[Any, PredictionResult, LatestWindow]):
    """A `ModelHandler` whose model is the last claimed window of an output folder.

    Examples are 1-d arrays of numbers (the fastest), sequences, dicts, NamedTuples or Beam rows; inferences are
    `RowScore`s, with None in all fields for an example that is no point, and as long as no window is claimed. Then
    `model_id`, the window's name, is None, too.

    The model looks for a later window by itself. With a side input of RunInference, such as
    `WatchFilePattern("out/.claims/*.json")`, it looks whenever that names another file as well, and where it names
    another folder, goes on with that.

    Args:
      folder: what `WriteSummaries` or a command writes to; globs and URLs as `open_summaries` takes them.
      columns: what to take from examples with names; by default the columns that the window is of.
      key: whose window, where the folder has several keys.
      every: seconds from one look for a later window to the next.
      min_batch_size, max_batch_size: of examples at once.

    Raises:
      ValueError: a time that is not positive; while running several keys and none given, or examples without the
        window's columns.

    Source: `beam_coresets.summaries.SummarizedData.score`.
    """

    def __init__(
        self,
        folder: str,
        columns: Columns | None = None,
        key: str | None = None,
        every: float = 60.0,
        min_batch_size: int = 64,
        max_batch_size: int = 4096,
    ) -> None:
        super().__init__()
        LatestWindow(folder, key, every)
        self._folder, self._columns, self._key, self._every = folder, columns, key, every
        self._batches = {"min_batch_size": min_batch_size, "max_batch_size": max_batch_size}

    def load_model(self) -> LatestWindow:
        """The folder's last window, looked for at once."""
        model = LatestWindow(self._folder, self._key, self._every)
        model.get()
        return model

    def run_inference(
        self, batch: Sequence[Any], model: LatestWindow, inference_args: dict[str, Any] | None = None
    ) -> Iterator[PredictionResult]:
        """A PredictionResult of each example, in their order."""
        window = model.get()
        if window is None:
            return (PredictionResult(example, _NOTHING, None) for example in batch)
        table, good, _ = window.scored_rows(batch, self._columns)
        scores: Iterable[RowScore] = scores_of(table)
        if len(good) < len(batch):
            placed = dict(zip(good.tolist(), scores, strict=True))
            scores = [placed.get(i, _NOTHING) for i in range(len(batch))]
        return (PredictionResult(*pair, window.name) for pair in zip(batch, scores, strict=True))

    def update_model_path(self, model_path: str | None = None) -> None:
        """Goes on with another folder; a file of a folder leaves it where it is, and has the window looked for."""
        if model_path and not model_path.endswith((".json", ".jsonl", ".parquet", ".avro")):
            self._folder = model_path

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """As numbers of 8 bytes."""
        fields = fields_of(batch[0])
        return 8 * len(batch) * (np.size(batch[0]) if fields is None else len(fields))

    def get_metrics_namespace(self) -> str:
        """That of this project's other counters."""
        return "beam_coresets"

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """What `beam.BatchElements` is given."""
        return self._batches


def centers_detector(
    folder: str,
    by: Literal["score", "quantile"] = "score",
    columns: Columns | None = None,
    key: str | None = None,
    every: float = 60.0,
    **options: Any,
) -> Any:
    """A detector for `apache_beam.ml.anomaly.transforms.AnomalyDetection`, alone or in an ensemble.

    It learns nothing from the rows: a stream, or a batch, that writes to the folder does. A row that is no point has
    the score None, and as long as no window is claimed, rows have NaN, which a threshold gives its label for "missing".

    Args:
      folder, columns, key, every: see `CentersModelHandler`.
      by: the anomaly score: "score", the distance in units of the cluster's spread, or "quantile", the share of the
        window's data that has a lower one.
      options: of Beam's `OfflineDetector`: `model_id`, `features`, `threshold_criterion`, `run_inference_args`.

    Raises:
      ValueError: another score.
      ImportError: a version of Beam that has no such detectors.

    Example:
      detector = centers_detector("out", by="quantile", threshold_criterion=FixedThreshold(0.999))
      results = rows | AnomalyDetection(detector)
    """
    if by not in ("score", "quantile"):
        raise ValueError(f"by: must be score or quantile, got {by!r}")
    try:
        from apache_beam.ml.anomaly.base import AnomalyPrediction
        from apache_beam.ml.anomaly.detectors.offline import OfflineDetector
    except ImportError:
        raise ImportError(
            f"apache-beam: must have apache_beam.ml.anomaly.detectors.offline, got version {beam.__version__}"
        ) from None

    def adapted(keyed: tuple[Any, PredictionResult]) -> tuple[Any, Any]:
        key, result = keyed
        score = float("nan") if result.model_id is None else getattr(result.inference, by)
        found = result.inference
        info = "" if found.cluster is None else f"center {found.center_id or found.cluster} of {result.model_id}"
        return key, AnomalyPrediction(score=score, info=info)

    handler = KeyedModelHandler(CentersModelHandler(folder, columns, key, every)).with_postprocess_fn(adapted)
    return OfflineDetector(handler, **{"model_id": "beam_coresets", **options})
