"""templates/flink, without a container engine: each file against its tool or schema, and the options against the real
commands."""
import contextlib
import copy
import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile

import pytest
import yaml

from beam_coresets.pipelines import stream

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "templates" / "flink"
JOB_SERVER = FOLDER / "job-server" / "pom.xml"
KUBERNETES = "1.30"
PATIENCE = 60.0  # seconds until a hang is a failure


@pytest.fixture(scope="module")
def tools():
    """The folder with docker-compose, kustomize and the Flink operator's jar."""
    folder = os.environ.get("BEAM_CORESETS_TEMPLATE_TOOLS")
    if not folder:
        pytest.skip("needs Go and Maven: `make test-templates` fetches the tools and runs this")
    return pathlib.Path(folder)


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    return done.stdout


# Settings


def settings():
    """.env.example as a dictionary."""
    lines = [line for line in (FOLDER / ".env.example").read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def used():
    """The variables that the files use."""
    compose = re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text())
    job = re.findall(r"\$([A-Z_]+)", (FOLDER / "kubernetes" / "job.yaml").read_text())
    replaced = re.findall(r"fieldPath: data\.(\w+)", (FOLDER / "kustomization.yaml").read_text())
    return {*compose, *job, *replaced}


def test_the_settings_are_those_that_are_used():
    assert set(settings()) == used()


def test_every_setting_is_explained():
    text = (FOLDER / ".env.example").read_text()
    for name in settings():
        assert re.search(rf"^# .*\.\n{name}=", text, re.M), name


def test_the_readme_names_settings_that_there_are():
    named = set(re.findall(r"\b([A-Z][A-Z_]*)=", (FOLDER / "README.md").read_text()))
    assert named
    assert named <= set(settings())


def test_versions_agree_with_the_job_server():
    (flink,) = re.findall(r"<flink.version>(.*)</flink.version>", JOB_SERVER.read_text())
    texts = [path.read_text() for path in (FOLDER / "compose.yaml", *(FOLDER / "kubernetes").glob("*.yaml"))]
    for text in texts:
        assert set(re.findall(r"image: flink:(\S+)", text)) <= {f"{flink}-java17"}
        assert set(re.findall(r"--flink_version=(\S+)", text)) <= {flink}
        assert set(re.findall(r"flinkVersion: (\S+)", text)) <= {f"v{flink.replace('.', '_')}"}
    assert sum(text.count(f"--flink_version={flink}") for text in texts) == 2


# Compose


def compose(tools, *options, **variables):
    """What `docker compose config` makes of the file."""
    clean = {name: value for name, value in os.environ.items() if name not in used()}
    command = [tools / "docker-compose", "-f", FOLDER / "compose.yaml", "--profile", "demo", *options]
    return json.loads(run(*command, "config", "--format", "json", env={**clean, **variables}))


def test_compose_accepts_its_file_and_the_example_holds_its_defaults(tools, tmp_path):
    (tmp_path / "none").touch()
    plain = compose(tools, "--env-file", tmp_path / "none")
    assert plain == compose(tools, "--env-file", FOLDER / ".env.example")
    assert len(plain["services"]) == 12


def test_each_taskmanager_shares_a_network_with_a_worker_of_its_own(tools):
    services = compose(tools)["services"]
    shared = {name: service["network_mode"] for name, service in services.items() if "network_mode" in service}
    assert shared == {f"taskmanager-{i}": f"service:worker-{i}" for i in (1, 2, 3)}
    for i in (1, 2, 3):
        assert services[f"worker-{i}"].get("entrypoint") is None  # the image's: the worker pool
        assert {mount["target"] for mount in services[f"worker-{i}"]["volumes"]} >= {"/shared", "/output"}


def test_compose_takes_folders_for_volumes(tools):
    services = compose(tools, OUTPUT_VOLUME="./out", KAFKA_CLIENT="./client")["services"]
    for name in ("job", "worker-1"):
        mounts = {mount["target"]: mount for mount in services[name]["volumes"]}
        assert mounts["/output"]["type"] == mounts["/etc/kafka-client"]["type"] == "bind"


@pytest.mark.parametrize("name", ["job", "topic", "producer"])
def test_what_is_waited_for_exists_and_can_become_so(tools, name):
    services = compose(tools)["services"]
    for other, wanted in services[name]["depends_on"].items():
        if wanted["condition"] == "service_healthy":
            assert services[other]["healthcheck"]["test"]
        else:
            assert "restart" not in services[other]


# Kubernetes


@pytest.fixture(scope="module")
def manifests(tools, tmp_path_factory):
    """What `kubectl apply -k` would send, by kind."""
    folder = tmp_path_factory.mktemp("kustomize")
    shutil.copytree(FOLDER / "kubernetes", folder / "kubernetes")
    shutil.copy(FOLDER / "kustomization.yaml", folder)
    shutil.copy(FOLDER / ".env.example", folder / ".env")
    found = list(yaml.safe_load_all(run(tools / "kustomize", "build", folder)))
    by_kind = {each["kind"]: each for each in found}
    assert len(by_kind) == len(found) == 4
    return by_kind


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "ConfigMap", "Job"])
def test_manifests_are_what_kubernetes_takes(manifests, kind):
    validate = pytest.importorskip("kubernetes_validate", reason="needs the extra templates: `make test-templates`")
    validate.validate(manifests[kind], KUBERNETES, strict=True)
    if kind == "Job":
        wrong = copy.deepcopy(manifests[kind])
        wrong["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
        with pytest.raises(validate.ValidationError):
            validate.validate(wrong, KUBERNETES, strict=True)


def closed(schema):
    """A schema that refuses names it does not know, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(value) for name, value in schema.items()}
    if isinstance(found.get("properties"), dict) and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("anyOf", None)
        found["type"] = ["integer", "string"]
    return found


@pytest.fixture(scope="module")
def deployment_schema(tools):
    """Of FlinkDeployment, from the operator itself."""
    with zipfile.ZipFile(tools / "flink-kubernetes-operator-api.jar") as jar:
        text = jar.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml")
    (version,) = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"].update({"apiVersion": {"const": f"flink.apache.org/{version['name']}"}, "kind": {},
                                 "metadata": {"type": "object"}})  # fmt: skip
    return schema


def test_the_operator_takes_the_cluster(manifests, deployment_schema):
    jsonschema = pytest.importorskip("jsonschema", reason="needs the extra templates: `make test-templates`")
    cluster = manifests["FlinkDeployment"]
    jsonschema.validate(cluster, deployment_schema)
    for path in (["spec"], ["spec", "taskManager", "podTemplate", "spec"]):
        wrong = copy.deepcopy(cluster)
        inner = wrong
        for name in path:
            inner = inner[name]
        inner["misspelt"] = 1
        with pytest.raises(jsonschema.ValidationError, match="misspelt"):
            jsonschema.validate(wrong, deployment_schema)


def test_settings_reach_the_manifests(manifests):
    given = settings()
    spec = manifests["FlinkDeployment"]["spec"]
    workers = spec["taskManager"]["podTemplate"]["spec"]["containers"][0]
    assert spec["taskManager"]["replicas"] == int(given["TASKMANAGERS"])
    assert spec["taskManager"]["resource"]["memory"] == given["TASKMANAGER_MEMORY"]
    assert workers["image"] == given["WORKER_IMAGE"]
    assert workers["resources"]["limits"]["memory"] == given["WORKER_MEMORY"]
    assert manifests["PersistentVolumeClaim"]["spec"]["storageClassName"] == given["STORAGE_CLASS"]
    assert manifests["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == given["STORAGE_SIZE"]
    assert "set-by-kustomization" not in json.dumps(manifests)


def test_all_that_we_start_runs_as_another_than_root_with_limits(manifests):
    cluster = manifests["FlinkDeployment"]["spec"]
    job = manifests["Job"]["spec"]["template"]["spec"]
    for pod in (cluster["podTemplate"]["spec"], job):
        assert pod["securityContext"]["runAsNonRoot"]
    workers = cluster["taskManager"]["podTemplate"]["spec"]["containers"]
    for container in (*workers, *job["initContainers"], *job["containers"]):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]


# Options


def parsed(monkeypatch, arguments):
    """The options of the real `beam-coresets stream`, which refuses those that neither it nor Beam have."""
    found = []
    monkeypatch.setattr(stream, "run", lambda known, beam_options, console: found.append((known, beam_options)) or 0)
    assert arguments[0] == "stream"
    assert stream.main(arguments[1:]) == 0
    ((known, beam_options),) = found
    return {**beam_options.get_all_options(), **vars(known)}


def submitted(manifests, folder, **variables):
    """The arguments that the Job's shell hands to beam-coresets."""
    show = folder / "beam-coresets"
    show.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    show.chmod(0o755)
    (container,) = manifests["Job"]["spec"]["template"]["spec"]["containers"]
    env = {**manifests["ConfigMap"]["data"], "PATH": f"{folder}:{os.environ['PATH']}", **variables}
    return run(*container["command"], *container["args"], env=env).splitlines()


def check_job(found):
    assert found["runner"].endswith("FlinkRunner")
    assert found["environment_type"] == "EXTERNAL"
    assert found["artifacts_dir"].startswith("/shared/")
    assert found["checkpoint_dir"].startswith("/shared/")
    assert (found["k"], found["shards"], found["replication"], found["coordinator_replicas"]) == (20, 3, 2, 2)
    assert (found["window"], found["deadline"], found["start"]) == ("10s", 5.0, "committed")
    assert (found["message_format"], found["dim"], found["output"]) == ("block", 8, "/output/stream")


def test_stream_takes_the_options_of_compose(tools, monkeypatch):
    found = parsed(monkeypatch, compose(tools)["services"]["job"]["command"])
    check_job(found)
    assert not found["detach"]


def test_stream_takes_the_options_of_kubernetes(manifests, monkeypatch, tmp_path):
    found = parsed(monkeypatch, submitted(manifests, tmp_path))
    check_job(found)
    assert found["detach"]
    assert found["parallelism"] == int(settings()["TASKMANAGERS"])


def test_more_options_are_options(tools, manifests, monkeypatch, tmp_path):
    more = {"MORE_OPTIONS": "--revise --kafka_config=/etc/kafka-client/client.properties",
            "MESSAGES": "--message_format json --columns lat,lon"}  # fmt: skip
    for arguments in (compose(tools, **more)["services"]["job"]["command"], submitted(manifests, tmp_path, **more)):
        found = parsed(monkeypatch, arguments)
        assert found["revise"]
        assert found["kafka_config"] == "/etc/kafka-client/client.properties"
        assert found["columns"] == ("lat", "lon")


def test_the_producer_takes_its_options(tools, monkeypatch):
    service = compose(tools)["services"]["producer"]
    (mount,) = service["volumes"]
    assert service["entrypoint"] == ["python", mount["target"]]
    source = pathlib.Path(mount["source"])
    program = runpy.run_path(str(source))
    made = []
    for name in ("create", "produce"):
        monkeypatch.setitem(program["main"].__globals__, name, lambda *args, **_: made.append(args) or 0)
    monkeypatch.setattr(sys, "argv", [source.name, *service["command"]])
    assert program["main"]() == 0
    assert made[0] == ("kafka:9092", "points", 8)


# The image


def test_the_linter_finds_nothing_in_the_dockerfile():
    linter = shutil.which("hadolint", path=os.path.dirname(sys.executable)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("needs the extra templates: `make test-templates`")
    run(linter, FOLDER / "Dockerfile")


def stages():
    """The Dockerfile: for each stage, its instructions as (word, rest)."""
    text = (FOLDER / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    found, name = {}, ""
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            name = rest.split(" AS ")[-1]
        elif word:
            found.setdefault(name, []).append((word, rest))
    return found


def test_the_last_stage_is_the_launcher():
    assert list(stages())[-1] == "launcher"
    assert dict(stages()["worker"])["USER"] == "9999:9999"
    assert "USER" not in dict(stages()["launcher"])
    assert json.loads(dict(stages()["launcher"])["ENTRYPOINT"]) == ["beam-coresets"]


def test_the_context_holds_what_is_copied():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    assert FOLDER.joinpath("job-server").relative_to(ROOT).as_posix() in kept


class Image:
    """A folder in place of an image's file system, where a stage's instructions are carried out one by one.

    As root it works as the Dockerfile's users do; else as whoever runs the tests.
    """

    def __init__(self, root, python):
        self.root, self.user = root, None
        (root / "bin").mkdir()
        (root / "bin" / "python").symlink_to(python)
        (root / "home" / "flink").mkdir(parents=True)
        self.variables = {"PATH": f"{root}/bin:/usr/bin:/bin"}

    def here(self, text):
        """Absolute paths of the image are below the folder."""
        return re.sub(r"(?<![\w.)}/])/(?=(opt|source|var|shared|output|home)\b)", f"{self.root}/", text)

    def copy_context(self):
        """COPY . /source, by the .dockerignore."""
        for line in (ROOT / ".dockerignore").read_text().splitlines():
            source = ROOT / line[1:]
            if line.startswith("!") and source.is_dir():
                skip = shutil.ignore_patterns("__pycache__", "target")
                shutil.copytree(source, self.root / "source" / line[1:], symlinks=True, ignore=skip)
            elif line.startswith("!"):
                shutil.copy(source, self.root / "source")

    def set(self, rest):
        for part in shlex.split(rest):
            name, separator, value = part.partition("=")
            if separator:
                self.variables[name] = self.here(self.filled(value))

    def filled(self, text):
        return re.sub(r"\$\{?(\w+)\}?", lambda found: self.variables[found[1]], text)

    def environment(self):
        if self.user is None:
            return {**os.environ, **self.variables}
        return {**self.variables, "HOME": f"{self.root}/home/flink"}

    def start(self, command, **more):
        who = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        return subprocess.Popen(command, env=self.environment(), cwd=self.root / "home" / "flink", **who, **more)

    def shell(self, command):
        steps = [step.strip() for step in command.split("&&")]
        steps = [step for step in steps if not step.startswith(("groupadd", "useradd"))]  # not on this machine
        command = self.here(" && ".join(steps))
        if os.getuid() != 0:
            command = command.replace("-o 9999 -g 9999", "")
        process = self.start(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, f"{command}\n{output[-4000:]}"

    def become(self, rest):
        if os.getuid() == 0:
            self.user = int(rest.split(":")[0])
            os.chown(self.root / "home" / "flink", self.user, self.user)

    def build(self, instructions):
        for word, rest in instructions:
            if word in ("ENV", "ARG"):
                self.set(rest)
            elif word == "RUN":
                self.shell(rest)
            elif word == "USER":
                self.become(rest)
            elif (word, rest) == ("COPY", ". /source"):
                (self.root / "source").mkdir()
                self.copy_context()


def a_python():
    """An interpreter that another user may run: root's own may be closed to others."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        who = {"user": 9999, "group": 9999, "extra_groups": []} if os.getuid() == 0 else {}
        with contextlib.suppress(OSError):
            code = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"
            if subprocess.run([path, "-c", code], env={}, cwd="/", capture_output=True, **who).returncode == 0:
                return path
    pytest.skip("needs a Python 3.10 or later, with venv, that another user may run (Debian: python3-venv)")


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def kernels(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}


@pytest.mark.slow
@pytest.mark.usefixtures("tools")
def test_the_worker_image_installs_keeps_its_kernels_and_answers():
    python = a_python()
    with tempfile.TemporaryDirectory(prefix="beam-coresets-image-") as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        image = Image(root, python)
        image.build(stages()["package"])
        image.build(stages()["worker"])
        compiled = kernels(root / "var" / "cache" / "kernels")
        assert len(compiled) > 30
        warm = dict(stages()["worker"])["RUN"]
        image.shell(warm)
        assert kernels(root / "var" / "cache" / "kernels") == compiled
        entry, port = json.loads(dict(stages()["worker"])["ENTRYPOINT"]), free_port()
        assert entry[-1] == "--service_port=50000"
        pool = image.start([*entry[:-1], f"--service_port={port}"], stderr=subprocess.PIPE, text=True)
        try:
            answers(port, pool)
        finally:
            pool.send_signal(signal.Signals[dict(stages()["worker"])["STOPSIGNAL"]])
            code = pool.wait(PATIENCE)
        assert code == 0


def answers(port, pool):
    """Waits until something listens on the port, while the process lives."""
    end = time.monotonic() + PATIENCE
    while True:
        assert pool.poll() is None, pool.stderr.read()[-4000:]
        assert time.monotonic() < end, "nothing listens"
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
            return
        time.sleep(0.1)
