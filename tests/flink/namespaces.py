"""`docker compose up` without containers: each service of templates/flink/compose.yaml is a process with a file system
of its own (an overlay, so what it writes outside of a volume nobody else sees), and each service that owns a network
is a network namespace. All namespaces are joined by a bridge that is in one, too: nothing of it shows outside.

What is not as in compose: Flink is the job server's jar, which holds all of it, and not the official image; Kafka is a
folder of jars; every process runs as root, as the Python that tests use may be closed to others; restart policies and
published ports are left out.
"""
import contextlib
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import psutil
import yaml
from cluster import JOB_MANAGER, OPENS, TASK_MANAGER

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "templates" / "flink"
PATIENCE = 120.0  # seconds; a hang becomes a failure, nothing is measured by it
SUBNET = "10.213.0"
MEMORY = "org.apache.flink.runtime.util.bash.BashJavaUtils"  # what Flink's own scripts ask
MARK = "BASH_JAVA_UTILS_EXEC_RESULT:"
CLEAN = ("LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

# What the official image has in its config.yaml before FLINK_PROPERTIES, and one line more.
IMAGE_CONFIG = """
jobmanager.bind-host: 0.0.0.0
jobmanager.rpc.port: 6123
taskmanager.bind-host: 0.0.0.0
rest.address: 0.0.0.0
rest.bind-address: 0.0.0.0
blob.server.port: 6124
parallelism.default: 1
# Not in the image, which does not have Beam's classes: here they would be loaded twice, and mixed up after a failure.
classloader.resolve-order: parent-first
"""

# Kafka's own needs jars that the broker does without.
TOPICS = """#!{python}
import argparse, sys
sys.path.insert(0, {benchmarks!r})
from stream_producer import create
parser = argparse.ArgumentParser()
for name in ("bootstrap-server", "topic"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--partitions", type=int, required=True)
for name in ("create", "if-not-exists"):
    parser.add_argument("--" + name, action="store_true", required=True)
args = parser.parse_args()
create(args.bootstrap_server, args.topic, args.partitions)
"""

# Run inside a network namespace, where mounts are private already. Arguments: folder, host name, mounts, "--", command.
CONTAINER = """
set -e
root=$1/root
hostname "$2"
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
for each in proc sys dev; do mount --rbind "/$each" "$root/$each"; done
mount -t tmpfs none "$root/tmp"
shift 2
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi
    mount --bind "$1" "$root$2"
    shift 2
done
shift
exec chroot "$root" "$@"
"""


def settings():
    """.env.example as a dictionary."""
    lines = [line for line in (FOLDER / ".env.example").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def services(**variables):
    """The services of compose.yaml, with .env.example and these variables filled in."""
    values = {**settings(), **variables}
    text = (FOLDER / "compose.yaml").read_text()
    text = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda found: values.get(found[1]) or found[2] or "", text)
    return yaml.safe_load(text)["services"]


def entrypoints():
    """Stage of the Dockerfile -> what it starts."""
    text = re.sub(r"(?m)^#.*\n", "", (FOLDER / "Dockerfile").read_text())
    found = re.findall(r"^FROM \S+ AS (\w+)$(?:(?!^FROM)[\s\S])*?^ENTRYPOINT (.+)$", text, re.M)
    return {stage: json.loads(words) for stage, words in found}


@functools.cache
def why_not():
    """Why namespaces can't be made here; empty if they can."""
    if os.getuid() != 0:
        return "needs root, for namespaces"
    missing = [name for name in ("ip", "unshare", "nsenter", "mount", "chroot") if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)} (Debian: iproute2, util-linux)"
    with tempfile.TemporaryDirectory() as folder:
        network = Network(["one"])
        try:
            network.up()
            network.start("one", pathlib.Path(folder), [], ["true"], subprocess.PIPE).check()
        except subprocess.CalledProcessError as error:
            return f"namespaces can't be made here: {error.stderr.strip()}"
        finally:
            network.down()
    return ""


def ip(*words):
    done = subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout


class Process(subprocess.Popen):
    def check(self):
        """Waits for its end, which must be a good one."""
        output, _ = self.communicate(timeout=PATIENCE)
        if self.returncode != 0:
            raise subprocess.CalledProcessError(self.returncode, self.args, stderr=output)


class Network:
    """Network namespaces, each with an address on one bridge.

    Names carry this process's id, so that what a killed run has left can be told from what runs.
    """

    def __init__(self, names):
        self._prefix = f"compose-{os.getpid()}-"
        self._bridge = f"{self._prefix}bridge"
        self.address = {name: f"{SUBNET}.{i}" for i, name in enumerate(names, 1)}

    def up(self):
        sweep()
        ip("netns", "add", self._bridge)
        ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
        ip("-n", self._bridge, "link", "set", "bridge", "up")
        for i, (name, address) in enumerate(self.address.items()):
            inside = self._prefix + name
            ip("netns", "add", inside)
            ip("-n", self._bridge, "link", "add", f"to{i}", "type", "veth", "peer", "name", "eth0", "netns", inside)
            ip("-n", self._bridge, "link", "set", f"to{i}", "master", "bridge", "up")
            ip("-n", inside, "addr", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", inside, "link", "set", link, "up")

    def set(self, name, key, value):
        """A sysctl of one of the networks."""
        ip("netns", "exec", self._prefix + name, "sh", "-c", f'echo "$0" > /proc/sys/{key.replace(".", "/")}', value)

    def start(self, network, folder, mounts, command, output):
        """A command in one of the networks, with its host name as containers that share one have, and with an own file
        system; `mounts` are pairs (path outside, path inside)."""
        words = ["ip", "netns", "exec", self._prefix + network, "unshare", "--uts", "sh", "-c", CONTAINER, "sh", folder]
        words += [network, *(path for pair in mounts for path in pair), "--", *command]
        environment = {name: os.environ[name] for name in CLEAN if name in os.environ}
        path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return Process(
            list(map(str, words)), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True,
            env={**environment, "PATH": path, "HOME": "/root", "PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip

    def down(self):
        """Kills all that runs in the namespaces, and removes them."""
        for name in listed():
            if name.startswith(self._prefix):
                delete(name)


def listed():
    """The namespaces of any run."""
    return [line.split()[0] for line in ip("netns", "list").splitlines() if re.match(r"compose-\d+-", line)]


def owner(namespace):
    """The id of the process that made it."""
    return int(namespace.split("-")[1])


def sweep():
    """Ends what killed runs have left."""
    for name in listed():
        if not psutil.pid_exists(owner(name)):
            delete(name)


def delete(namespace):
    """Kills what runs in a namespace, until nothing does: it may be starting more."""
    end = time.monotonic() + PATIENCE
    while pids := ip("netns", "pids", namespace).split():
        assert time.monotonic() < end, f"processes outlive SIGKILL: {pids}"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        time.sleep(0.05)
    ip("netns", "del", namespace)


class Compose:
    """The services of compose.yaml as processes, as a context: none before `up`, and all end with it.

    Args:
      jar: the Flink job server. jars: the folder of a Kafka broker's jars.
      folder: for volumes and logs.
      mounts: service -> pairs (path outside, path inside), beside its volumes.
      variables: settings in place of those of .env.example.
    """

    def __init__(self, jar, jars, folder, mounts=None, **variables):
        self._jar, self._jars, self.folder = os.path.realpath(jar), os.path.realpath(jars), pathlib.Path(folder)
        self.services = services(**variables)
        self._mounts = mounts or {}
        self._processes = {}
        self._network = Network([name for name in self.services if self.network_of(name) == name])
        self._stages = {service["image"]: service["build"]["target"] for service in self.services.values()
                        if "build" in service}  # fmt: skip

    def network_of(self, name):
        """The service whose network it has."""
        return self.services[name].get("network_mode", name).removeprefix("service:")

    def volume(self, name):
        """Where a volume is, seen from outside."""
        return self.folder / "volumes" / name

    def __enter__(self):
        for name in ("log", "volumes"):
            (self.folder / name).mkdir(parents=True)
        hosts = ["127.0.0.1 localhost", "::1 localhost"]
        hosts += [f"{address} {name}" for name, address in self._network.address.items()]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        try:
            self._network.up()
            for name, service in self.services.items():
                for key, value in service.get("sysctls", {}).items():
                    self._network.set(name, key, value)
        except BaseException:
            self._network.down()
            raise
        return self

    def __exit__(self, *error):
        self._network.down()
        for process in self._processes.values():
            process.wait(PATIENCE)

    def up(self, *names):
        """Starts services and what they wait for, each when what it waits for is as it should be."""
        for name in names:
            for other, wanted in self.services[name].get("depends_on", {}).items():
                self.up(other)
                if wanted["condition"] == "service_healthy":
                    self.wait_for(functools.partial(self.healthy, other), f"a healthy {other}")
                else:
                    self.ended(other)
            if name not in self._processes:
                self._start(name)

    def process(self, name):
        return psutil.Process(self._processes[name].pid)

    def log(self, name):
        return (self.folder / "log" / name).read_text(errors="replace")

    def healthy(self, name):
        """Whether the service's own health check finds it so."""
        assert self._processes[name].poll() is None, f"{name} has ended: {self.log(name)[-4000:]}"
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.exec(name, *command).returncode == 0

    def ended(self, name):
        """Waits for the good end of a service; its output."""
        code = self._processes[name].wait(PATIENCE)
        assert code == 0, f"{name} has ended with {code}: {self.log(name)[-4000:]}"
        return self.log(name)

    def exec(self, name, *command):
        """As `docker compose exec`: a command beside a service, which sees what that sees."""
        words = ["nsenter", "--target", self._processes[name].pid, "--mount", "--net", "--uts", "--root", "--wd"]
        return subprocess.run(
            [*map(str, words), *map(str, command)], capture_output=True, text=True, timeout=PATIENCE,
            env={"PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip

    def pause(self, name):
        """As `docker compose pause`: all of the service stands still."""
        self._each(name, psutil.Process.suspend)

    def unpause(self, name):
        self._each(name, psutil.Process.resume)

    def wait_for(self, condition, what, seconds=PATIENCE):
        """Waits until `condition()` is true and returns its value."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"{seconds:g} s without {what}; logs in {self.folder / 'log'}"
            time.sleep(0.2)
        return found

    def _each(self, name, do):
        process = self.process(name)
        for one in [process, *process.children(recursive=True)]:
            do(one)

    def _start(self, name):
        service, inside = self.services[name], self.folder / "containers" / name
        inside.mkdir(parents=True)
        mounts = [(path, path) for path in {str(ROOT), sys.prefix, sys.base_prefix, self._jar, self._jars}]
        mounts += [(self.folder / "hosts", "/etc/hosts"), (self._jar, "/opt/job-server.jar")]
        for line in service.get("volumes", ()):
            source, target = line.split(":")[:2]
            source = FOLDER / source if source[0] in "./" else self.volume(source)
            if not source.exists():
                source.mkdir()
            mounts.append((source, target))
        own, command = self._image(name, service)
        mounts += [*own, *self._mounts.get(name, ())]
        with (self.folder / "log" / name).open("w") as log:
            process = self._network.start(self.network_of(name), inside, mounts, command, log)
        self._processes[name] = process

    def _image(self, name, service):
        """(What the service's image has beside the base system, what is started in it)."""
        words, image = service.get("command", []), service["image"]
        words = shlex.split(words) if isinstance(words, str) else words
        if image.startswith("flink:"):
            return self._flink(name, service["environment"]["FLINK_PROPERTIES"], *words)
        if image.startswith("apache/kafka:"):
            return self._kafka(name, service.get("environment"), words)
        return [], [*service.get("entrypoint", entrypoints()[self._stages[image]]), *words]

    def _flink(self, name, properties, role):
        """Flink with the memory that its own scripts would give it."""
        conf = self.folder / "conf" / name
        conf.mkdir(parents=True)
        (conf / "config.yaml").write_text(IMAGE_CONFIG + properties)
        code, main = {"jobmanager": ("JM", JOB_MANAGER), "taskmanager": ("TM", TASK_MANAGER)}[role]
        asked = ["java", "-cp", self._jar, MEMORY, f"GET_{code}_RESOURCE_PARAMS", "--configDir", conf]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        memory, options = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
        opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENS]
        java = ["java", *memory.split(), *opens, "-cp", self._jar, main, "-c", "/opt/flink/conf", *options.split()]
        return [(conf, "/opt/flink/conf")], java

    def _kafka(self, name, environment, words):
        """The broker with settings from the environment, or the tool for topics."""
        own = self.folder / "conf" / name
        own.mkdir(parents=True)
        if words:
            tool = own / "kafka-topics.sh"
            tool.write_text(TOPICS.format(python=sys.executable, benchmarks=str(ROOT / "benchmarks")))
            tool.chmod(0o755)
            return [(own, "/opt/kafka/bin")], words
        keys = {key.removeprefix("KAFKA_").lower().replace("_", "."): value for key, value in environment.items()}
        (own / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
        java = f"java -Xmx512m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '{self._jars}/*'"
        conf = "/opt/kafka/config/server.properties"
        form = f"{java} kafka.tools.StorageTool format -t Y29tcG9zZS1pbi10ZXN0cw -c {conf}"
        return [(own, "/opt/kafka/config")], ["sh", "-c", f"{form} && exec {java} kafka.Kafka {conf}"]
