"""Straggler-resilient, mergeable coresets for clustering: the mathematics, without Apache Beam.

The Beam transforms are in `beam_coresets.transforms`, the runnable jobs in `beam_coresets.pipelines`.
"""
import beam_coresets._jit  # noqa: F401  (settles where compiled kernels are kept before numba is imported)

__version__ = "0.1.0"
