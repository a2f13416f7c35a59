"""What a pass over the data brings back through a file: the same value, and nothing that runs."""
import pickle

import numpy as np
import pytest

from beam_coresets.assigning.dual_prices import Survey
from beam_coresets.pipelines.passes.over_rows import bytes_of, value_of
from beam_coresets.points.scale import Scale


def same(a, b):
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, (tuple, list)):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, Survey):
        same(list(vars(a).values()), list(vars(b).values()))
    else:
        assert a == b


def test_what_passes_make_comes_back():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    survey = Survey(("a", "b"), np.ones(2), True, rows, np.ones(4), np.arange(4, dtype=np.uint64), np.zeros(4, int),
                    np.arange(4))  # fmt: skip
    for value in (
        rows, (rows, np.ones(4)), {"": np.ones((3, 2)), "a": np.zeros((3, 0))}, Scale((0.5, 1e300), (1.0, 2.0)), survey,
        None, [1, "x", (True, float("inf"))], np.float64(0.1),
    ):  # fmt: skip
        same(value, value_of(bytes_of(value)))


def test_a_file_that_others_wrote_is_not_unpickled():
    with pytest.raises(ValueError, match="Pass: must be a record that this version reads"):
        value_of(pickle.dumps(np.ones(3)))
    data = bytes_of({"rows": np.ones(3)})
    for cut in range(len(data)):
        with pytest.raises(ValueError, match="Pass: must be a record"):
            value_of(data[:cut])
