"""The streaming pipeline of templates/yaml, on Prism: windows of generated points are answered with all of them."""
import json
import pathlib

import pytest

from beam_coresets.table_schemas import in_seconds
from beam_coresets.transforms.writing.claims import Claims

pytest.importorskip("apache_beam.yaml.main", reason="needs the extra yaml")
pytestmark = pytest.mark.prism
PIPELINE = pathlib.Path(__file__).parents[2] / "templates" / "yaml" / "summarize_stream.yaml"
RATE = 1000


def test_windows_of_generated_points_are_written_with_all_of_them(on_prism, tmp_path):
    output = tmp_path / "out"
    variables = {"output": str(output), "k": 4, "rate": RATE, "window": "2s"}
    job = on_prism("run", ["-m", "apache_beam.yaml.main", f"--yaml_pipeline_file={PIPELINE}",
                           f"--jinja_variables={json.dumps(variables)}"])  # fmt: skip
    claims = Claims(str(output), "avro")
    job.wait_for(lambda: len(set(claims.claimed_since(()))) >= 4, "four windows")
    found = (in_seconds(claims.read(name, "summaries")) for name in sorted(claims.claimed_since(())))
    rows = [row for table in found for row in table.to_pylist()]
    rows.sort(key=lambda row: row["window_start"])
    assert all((row["coverage"], row["reason"], row["k"]) == (1.0, "all", 4) for row in rows)
    # the first and the last window may be cut
    assert {row["points"] for row in rows[1:-1]} == {2 * RATE}
