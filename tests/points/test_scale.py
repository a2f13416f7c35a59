"""Scaled columns: flats that are solved in scaled units are the same flats in the user's."""
import numpy as np
import pytest

from beam_coresets.hashing import generator
from beam_coresets.points.flats import Flats, nearest_flat
from beam_coresets.points.scale import Scale

SCALE = Scale((5.0, -100.0, 0.0, 3.0), (1.0, 250.0, 0.01, 7.0))


@pytest.mark.parametrize("r", [1, 2])
def test_bases_come_back_orthonormal_and_span_the_same_flats(r):
    rng = generator("scaled bases", r)
    bases = np.linalg.qr(rng.standard_normal((3, 4, r)))[0].transpose(0, 2, 1)
    centers = rng.standard_normal((3, 4))
    points = centers[:, None] + rng.standard_normal((3, 20, r)) @ bases  # on the flats
    undone = Flats(SCALE.undo(centers), SCALE.undo_bases(bases))
    np.testing.assert_allclose(
        undone.bases @ undone.bases.transpose(0, 2, 1), np.broadcast_to(np.eye(r), (3, r, r)), atol=1e-12
    )
    largest = np.take_along_axis(undone.bases, np.abs(undone.bases).argmax(axis=2, keepdims=True), axis=2)
    assert (largest > 0).all()
    for j in range(3):
        user = SCALE.undo(points[j])
        _, dist_sq = nearest_flat(user, undone.take([j]))
        assert dist_sq.max() < 1e-20 * (user**2).sum(axis=1).max()
    again = Flats(SCALE.apply(undone.centers), SCALE.apply_bases(undone.bases))
    for j in range(3):
        assert nearest_flat(points[j], again.take([j]))[1].max() < 1e-18


def test_a_scale_of_other_columns_is_refused():
    with pytest.raises(ValueError, match="scale: must be of 3 coordinates, got 4"):
        SCALE.apply(np.zeros((2, 3)))
