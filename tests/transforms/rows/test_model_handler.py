"""Emitted centers as a model of RunInference, and as a detector of Beam's AnomalyDetection."""
import math
import sys

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, ModelMetadata, RunInference
from jobs import TWO_WORKERS, run
from windows_written import DAY, points_of, write_minutes

from beam_coresets.summaries import open_summaries
from beam_coresets.transforms.rows.latest_window import RowScore
from beam_coresets.transforms.rows.model_handler import CentersModelHandler, centers_detector

N = 300
NONE = RowScore()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("models")
    write_minutes(made, [0, 1])
    return str(made)


def expected(folder, points):
    window = open_summaries(folder).latest()
    found = window.coreset.score(points)
    ids = window.to_arrow("centers").column("center_id").to_pylist()
    columns = found.labels.tolist(), [ids[i] for i in found.labels], found.distances, found.scores, found.quantiles
    return [RowScore(*row) for row in zip(*map(list, columns), strict=True)]


def inferred(examples, handler, **options):
    """The results, in no order."""

    def build(pipeline):
        side = options.get("watched")
        metadata = None if side is None else pipeline | "Side" >> beam.Create([ModelMetadata(side, "window")])
        made = pipeline | beam.Create(examples) | RunInference(handler, model_metadata_pcoll=metadata)
        return {"results": made}

    held, result = run(build, TWO_WORKERS)
    return held["results"], result


def test_arrays_and_rows_are_inferred_alike(folder):
    points = points_of(5, N)
    wanted = {tuple(point): score for point, score in zip(points.tolist(), expected(folder, points), strict=True)}
    results, job = inferred(list(points), CentersModelHandler(folder, max_batch_size=100))
    assert len(results) == N
    assert {tuple(each.example.tolist()): each.inference for each in results} == wanted
    assert {each.model_id for each in results} == {"2026-11-21T00:01:00Z/2026-11-21T00:02:00Z-r1"}
    names = {metric.key.metric.namespace for metric in job.metrics().query()["counters"]}
    assert "beam_coresets" in names
    for kind in (dict, beam.Row):
        rows = [kind(z=z, x=x, y=y, other="?") for x, y, z in points.tolist()]
        results, _ = inferred(rows, CentersModelHandler(folder))
        got = [each.example if kind is dict else each.example._asdict() for each in results]
        assert [wanted[row["x"], row["y"], row["z"]] for row in got] == [each.inference for each in results]


def test_keys_stay_with_their_examples(folder):
    points = points_of(5, 20)
    results, _ = inferred(list(enumerate(points)), KeyedModelHandler(CentersModelHandler(folder)))
    wanted = expected(folder, points)
    assert {key: result.inference for key, result in results} == dict(enumerate(wanted))


def test_what_is_no_point_gets_nothing(folder):
    handler = CentersModelHandler(folder)
    batch = [np.array([1.0, 2.0, 3.0]), np.array([np.nan, 2.0, 3.0])]
    good, bad = handler.run_inference(batch, handler.load_model())
    assert good.inference == expected(folder, batch[0][None])[0]
    assert (bad.inference, bad.model_id) == (NONE, good.model_id)
    assert handler.get_num_bytes(batch) == 48
    assert handler.get_num_bytes([{"x": 1, "y": 2}]) == 16


def test_before_the_first_window_there_is_no_model(tmp_path):
    results, _ = inferred([np.zeros(3)] * 5, CentersModelHandler(str(tmp_path)))
    assert {(each.inference, each.model_id) for each in results} == {(NONE, None)}


def test_a_watched_file_and_another_folder_are_models_of_their_own(folder, tmp_path):
    write_minutes(tmp_path, [7])
    handler = CentersModelHandler(str(tmp_path / "none yet"))
    results, _ = inferred([np.zeros(3)], handler, watched=folder)
    assert results[0].model_id.startswith("2026-11-21T00:01:00Z")
    handler = CentersModelHandler(str(tmp_path))
    results, _ = inferred([np.zeros(3)], handler, watched=f"{tmp_path}/.claims/{DAY + 420:.0f}.json")
    assert results[0].model_id.startswith("2026-11-21T00:07:00Z")


def test_a_file_that_is_watched_has_the_window_looked_for(tmp_path):
    write_minutes(tmp_path, [0])
    handler = CentersModelHandler(str(tmp_path), every=3600)
    old = handler.load_model()
    write_minutes(tmp_path, [1])
    handler.update_model_path(f"{tmp_path}/.claims/something.json")
    assert old.get().name != handler.load_model().get().name


# The detector


def detected(rows, detector):
    from apache_beam.ml.anomaly.transforms import AnomalyDetection

    held, _ = run(lambda p: {"results": p | beam.Create(rows) | AnomalyDetection(detector)})
    return held["results"]


def rows_of(points):
    return [beam.Row(x=x, y=y, z=z, name=str(i)) for i, (x, y, z) in enumerate(points.tolist())]


def test_a_threshold_finds_what_is_far_off(folder):
    thresholds = pytest.importorskip("apache_beam.ml.anomaly.thresholds")
    points = np.concatenate([points_of(5, 50), 500 + points_of(6, 5)])
    wanted = expected(folder, points)
    cut = thresholds.FixedThreshold(0.999)
    for by, threshold in (("quantile", cut), ("score", thresholds.FixedThreshold(20))):
        results = detected(rows_of(points), centers_detector(folder, by, threshold_criterion=threshold))
        assert len(results) == 55
        for result in results:
            (prediction,) = result.predictions
            score = wanted[int(result.example.name)]
            assert prediction.score == getattr(score, by)
            assert prediction.model_id == "beam_coresets"
            assert prediction.info.startswith(f"center {score.cluster} of 2026-11-21T00:01:00Z")
            if int(result.example.name) >= 50:
                assert prediction.label == 1
    assert sum(result.predictions[0].label for result in results) == 5


def test_it_votes_in_an_ensemble(folder):
    base = pytest.importorskip("apache_beam.ml.anomaly.base")
    from apache_beam.ml.anomaly.aggregations import AnyVote
    from apache_beam.ml.anomaly.detectors.zscore import ZScore
    from apache_beam.ml.anomaly.thresholds import FixedThreshold

    points = np.concatenate([points_of(5, 20), 500 + points_of(6, 2)])
    ours = centers_detector(
        folder, "quantile", model_id="centers", features=["x", "y", "z"], threshold_criterion=FixedThreshold(0.999)
    )
    ensemble = base.EnsembleAnomalyDetector([ours, ZScore(features=["x"])], aggregation_strategy=AnyVote())
    results = detected(rows_of(points), ensemble)
    assert len(results) == 22
    assert {int(r.example.name) for r in results if r.predictions[0].label == 1} >= {20, 21}


def test_what_has_no_score_is_told_apart(folder, tmp_path):
    thresholds = pytest.importorskip("apache_beam.ml.anomaly.thresholds")
    cut = thresholds.FixedThreshold(3)
    (result,) = detected(rows_of(np.zeros((1, 3))), centers_detector(str(tmp_path), threshold_criterion=cut))
    assert math.isnan(result.predictions[0].score)
    assert result.predictions[0].label == -2
    (result,) = detected(rows_of(np.full((1, 3), np.nan)), centers_detector(folder, threshold_criterion=cut))
    assert (result.predictions[0].score, result.predictions[0].label) == (None, None)


def test_what_is_asked_for_is_checked(folder):
    with pytest.raises(ValueError, match="by: must be score or quantile, got 'distance'"):
        centers_detector(folder, "distance")
    with pytest.raises(ValueError, match="every: must be positive"):
        CentersModelHandler(folder, every=-1)


def test_a_beam_without_detectors_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.ml.anomaly.base", None)
    with pytest.raises(ImportError, match=r"must have apache_beam\.ml\.anomaly\.detectors\.offline, got version"):
        centers_detector(folder)
