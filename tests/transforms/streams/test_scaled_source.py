"""ScaledSource: the same source in scaled units; a stream with a scale answers in the user's."""
import pickle

import numpy as np
import pytest

from beam_coresets.parameters.plan import Plan
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.points.scale import Scale
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.transforms.streams.rate import RateSource
from beam_coresets.transforms.streams.scaled import ScaledSource
from beam_coresets.transforms.summarize_stream import SummarizeUnbounded

SCALE = Scale((100.0, 0.0, -5.0), (2.0, 1.0, 10.0))


def now():
    return 1010.0


def read(source):
    reader = source.reader(0, 1)
    reader.seek({1: 3})
    (chunk,) = reader.read(0)
    return chunk


def test_points_are_scaled_and_nothing_else_changes():
    plain = RateSource(rate=4000.0, parts=4, dim=3, rows=10, t0=1000.0, clock=now)
    scaled = pickle.loads(pickle.dumps(ScaledSource(plain, SCALE)))
    before, after = read(plain), read(scaled)
    assert after.points.dtype == np.float32
    np.testing.assert_allclose(SCALE.undo(after.points), before.points, atol=1e-3)
    assert (after.start, after.stop, after.part) == (before.start, before.stop, 1)
    assert after.times.tolist() == before.times.tolist()
    assert (scaled.bounded, scaled.starts(), scaled.part_name(1)) == (False, plain.starts(), plain.part_name(1))


def test_cosine_has_no_scale():
    stream = StreamPlan(Plan(k=2, metric="cosine"), WindowSpec.parse("5s"))
    with pytest.raises(ValueError, match="scale: must be left out with metric cosine"):
        SummarizeUnbounded(stream, scale=SCALE)
