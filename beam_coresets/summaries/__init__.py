"""Reads what runs have written, without Beam: windows, their certificates, and answers from their coresets.

window = open_summaries("out").latest()
window.centers, window.certificate.cost, window.coreset.mean("fare")
"""
from typing import TYPE_CHECKING

from beam_coresets._front_door import front_door

if TYPE_CHECKING:
    from beam_coresets.results.estimates import Estimate
    from beam_coresets.summaries.claim_records import DamagedFileError
    from beam_coresets.summaries.collection import Gap, MissingWindows, SkippedFile, StoredSummaries, open_summaries
    from beam_coresets.summaries.data import Assigned, Histogram, Scored, SummarizedData
    from beam_coresets.summaries.places import NoSummariesError
    from beam_coresets.summaries.window import Certificate, WindowSummary

__all__ = [
    "Assigned", "Certificate", "DamagedFileError", "Estimate", "Gap", "Histogram", "MissingWindows",
    "NoSummariesError", "Scored", "SkippedFile", "StoredSummaries", "SummarizedData", "WindowSummary", "open_summaries",
]  # fmt: skip

_HOMES = {
    "Assigned": "beam_coresets.summaries.data",
    "Certificate": "beam_coresets.summaries.window",
    "DamagedFileError": "beam_coresets.summaries.claim_records",
    "Estimate": "beam_coresets.results.estimates",
    "Gap": "beam_coresets.summaries.collection",
    "Histogram": "beam_coresets.summaries.data",
    "MissingWindows": "beam_coresets.summaries.collection",
    "NoSummariesError": "beam_coresets.summaries.places",
    "Scored": "beam_coresets.summaries.data",
    "SkippedFile": "beam_coresets.summaries.collection",
    "StoredSummaries": "beam_coresets.summaries.collection",
    "SummarizedData": "beam_coresets.summaries.data",
    "WindowSummary": "beam_coresets.summaries.window",
    "open_summaries": "beam_coresets.summaries.collection",
}

if not TYPE_CHECKING:  # else every name would pass for one of this package's
    __getattr__, __dir__ = front_door(__name__, _HOMES)
