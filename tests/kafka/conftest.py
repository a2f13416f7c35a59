"""A broker for the tests in this folder, or the reason why they are skipped."""
import os
import shutil

import pytest

JARS = "BEAM_CORESETS_KAFKA"


@pytest.fixture(scope="session")
def jars():
    """The folder of the broker's jars."""
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
