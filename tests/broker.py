"""A real Kafka broker, one process in KRaft mode on loopback, from a folder of jars."""
import pathlib
import random
import signal
import socket
import subprocess
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

USER, PASSWORD = "reader", "open-sesame-73"

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={module} required user_{user}="{password}";
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.enable={cleaner}
log.cleaner.backoff.ms=500
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=2000
"""


def free_ports(n):
    """Ports of loopback that nobody listens on, and none of those that connections are given."""
    sockets = []
    for port in random.SystemRandom().sample(range(15_000, 32_000), 1000):
        one = socket.socket()
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            one.close()
            continue
        sockets.append(one)
        if len(sockets) == n:
            break
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Broker:
    """`servers` for everybody, `sasl_servers` for USER with PASSWORD. Not running before `start`; compacts topics if
    it is to `clean`."""

    def __init__(self, jars, folder, clean=False):
        self._folder = pathlib.Path(folder)
        self._java = ["java", "-Xms128m", "-Xmx384m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        self._java += ["-cp", f"{jars}/*"]
        port, sasl, controller = free_ports(3)
        self.servers, self.sasl_servers = f"127.0.0.1:{port}", f"127.0.0.1:{sasl}"
        self._properties = self._folder / "server.properties"
        self._properties.write_text(PROPERTIES.format(
            port=port, sasl=sasl, controller=controller, logs=self._folder / "logs", user=USER, password=PASSWORD,
            cleaner=str(clean).lower(),
            module="org.apache.kafka.common.security.plain.PlainLoginModule",
        ))  # fmt: skip
        self._process = self._admin = None

    def start(self):
        """Returns when the broker answers."""
        with (self._folder / "broker.log").open("a") as log:
            if not (self._folder / "logs").exists():
                tool = [*self._java, "kafka.tools.StorageTool", "format", "-t", "bWFkZS1mb3ItdGVzdHMtMQ"]
                subprocess.run([*tool, "-c", self._properties], check=True, stdout=log, stderr=log, timeout=60)
            command = [*self._java, "kafka.Kafka", self._properties]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(120):
            assert self._process.poll() is None, (self._folder / "broker.log").read_text()[-3000:]
            try:
                if self.admin().list_topics(timeout=0.5).brokers:
                    return
            except KafkaException:
                time.sleep(0.1)
        raise AssertionError("the broker did not come up in a minute")

    def admin(self):
        """A client; kept, as what it was asked for ends with it."""
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        return self._admin

    def pause(self):
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        """As a crash does."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)
