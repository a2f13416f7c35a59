"""Real jobs on Prism; they need the binary that `make prism` installs."""
import os

import pytest
from streaming_job import started


def pytest_configure(config):
    config.addinivalue_line("markers", "prism: runs jobs on Prism; see `make prism`")


@pytest.fixture(scope="session")
def prism():
    """The Prism binary."""
    path = os.environ.get("BEAM_CORESETS_PRISM")
    if not path:
        pytest.skip("needs Go and Prism: `make prism` installs it and runs this")
    assert os.path.isfile(path), f"BEAM_CORESETS_PRISM: must be a file, got {path!r}"
    return path


@pytest.fixture
def on_prism(prism, tmp_path):
    """Starts a command on Prism, `on_prism("run 1", [script, ...])`: a StreamingJob, killed after."""
    with started(tmp_path, ["--runner=PrismRunner", f"--prism_location={prism}"]) as start:
        yield start
