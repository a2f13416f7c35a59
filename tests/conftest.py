"""Settings shared by all tests: one thread a kernel, and no deadlines, as first calls compile; and a Kafka broker."""
import os
import shutil

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from beam_coresets.pipelines.running import waiting  # noqa: E402

waiting.PATIENCE = 3600.0  # tests of what commands say don't depend on how busy the machine is
settings.register_profile("project", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


JARS = "BEAM_CORESETS_KAFKA"


@pytest.fixture(scope="session")
def jars():
    """The folder of a Kafka broker's jars, or the reason why a test is skipped."""
    folder = os.environ.get(JARS)
    if not folder:
        pytest.skip(f"needs a Kafka broker: run `make test-kafka` (or set {JARS} to a folder of its jars)")
    if not os.path.isdir(folder) or not shutil.which("java"):
        pytest.fail(f"{JARS}: must be a folder of jars, with java on the PATH, got {folder!r}")
    return os.path.abspath(folder)


@pytest.fixture
def make_broker(jars, tmp_path_factory):
    """Makes brokers that do not outlive the test."""
    from broker import Broker

    brokers = []

    def make():
        brokers.append(Broker(jars, tmp_path_factory.mktemp("broker")))
        return brokers[-1]

    yield make
    for one in brokers:
        one.kill()


@pytest.fixture(scope="session")
def broker(jars, tmp_path_factory):
    """One running broker for all tests; whoever pauses it wakes it again."""
    from broker import Broker

    broker = Broker(jars, tmp_path_factory.mktemp("broker"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
