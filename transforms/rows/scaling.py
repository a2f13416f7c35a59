"""Columns on one scale: a first pass over the data for means and deviations, then every block in those units."""
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

import beam_coresets.transforms.base.coders  # noqa: F401  (registers the coder of PointBlock)
from beam_coresets.points.block import PointBlock, narrow
from beam_coresets.points.scale import Scale

_NOISE = 1e-14  # relative to the mean: what rounding alone makes of a constant column's deviation


class _Moments(NamedTuple):
    weight: float
    mean: Any
    squares: Any  # weighted squared deviations from the mean


@beam.typehints.with_input_types(PointBlock)
@beam.typehints.with_output_types(Scale)
class StandardScale(beam.CombineFn):
    """PointBlocks -> the Scale of weighted mean and standard deviation; a constant column is divided by 1.

    Both are rounded to six digits, relative to the deviation: sums in another order give the same scale.
    """

    def create_accumulator(self) -> _Moments:
        return _Moments(0.0, np.zeros(0), np.zeros(0))

    def add_input(self, total: _Moments, block: PointBlock) -> _Moments:
        weight = float(block.weights.sum())
        if weight == 0:
            return total
        mean = block.weights @ block.points.astype(np.float64) / weight
        return _merge(total, _Moments(weight, mean, block.weights @ (block.points - mean) ** 2))

    def merge_accumulators(self, totals: Iterable[_Moments]) -> _Moments:
        merged = self.create_accumulator()
        for total in totals:
            merged = _merge(merged, total)
        return merged

    def extract_output(self, total: _Moments) -> Scale:
        deviation = np.sqrt(total.squares / max(total.weight, 1e-300))
        constant = deviation <= _NOISE * np.abs(total.mean)
        divisor = np.array([float(f"{v:.5e}") for v in np.where(constant, 1.0, deviation)])
        step = 10.0 ** (np.floor(np.log10(divisor)) - 5)
        origin = np.round(total.mean / step) * step
        return Scale(tuple(map(float, origin)), tuple(map(float, divisor)))


def _merge(a: _Moments, b: _Moments) -> _Moments:
    """Chan, Golub and LeVeque's pairwise update: no cancellation."""
    if a.weight == 0 or b.weight == 0:
        return a if b.weight == 0 else b
    weight = a.weight + b.weight
    step = b.mean - a.mean
    mean = a.mean + step * (b.weight / weight)
    return _Moments(weight, mean, a.squares + b.squares + step**2 * (a.weight * b.weight / weight))


class ScaleBlocks(beam.DoFn):
    """PointBlock, Scale (a side input) -> the block in scaled units."""

    def process(self, block: PointBlock, scale: Scale) -> Iterator[PointBlock]:
        """Yields the block in scaled units."""
        points = narrow(scale.apply(block.points)) if len(block) else block.points
        yield PointBlock(points, block.weights, block.ids, block.span, block.groups, block.extras)
