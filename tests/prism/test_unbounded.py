"""SummarizeUnbounded on Prism: windows of its rows are answered with all of them, while more come."""
import pathlib

import pytest

from beam_coresets.table_schemas import in_seconds
from beam_coresets.transforms.writing.claims import Claims

pytestmark = pytest.mark.prism
JOB = pathlib.Path(__file__).parents[1] / "unbounded_job.py"
ROWS = 500


def test_windows_of_any_pcollection_are_answered_with_all_of_their_rows(on_prism, tmp_path):
    output = tmp_path / "out"
    job = on_prism("run", [JOB, f"--output={output}", f"--rows={ROWS}"])
    claims = Claims(str(output), "avro")
    job.wait_for(lambda: len(set(claims.claimed_since(()))) >= 4, "four windows")
    found = (in_seconds(claims.read(name, "summaries")) for name in sorted(claims.claimed_since(())))
    rows = [row for table in found for row in table.to_pylist()]
    rows.sort(key=lambda row: row["window_start"])
    for row in rows:
        assert (row["coverage"], row["reason"], row["responded"]) == (1.0, "all", [0, 1, 2, 3])
        assert row["points"] == row["total_weight"]
    # the first and the last window may be cut; a tick is in one window only
    assert {row["points"] for row in rows[1:-1]} == {8 * ROWS}
