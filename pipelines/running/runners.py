"""What each runner needs for a job, set unless the user has set it, with the reason for each."""
import argparse
import atexit
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    StandardOptions,
)

from beam_coresets.declared import add_parameters, declare
from beam_coresets.pipelines.running import checkpoints
from beam_coresets.pipelines.running.flink_cluster import FlinkCluster, require_jar, require_pool
from beam_coresets.pipelines.running.local import is_local
from beam_coresets.streaming.placement import MAX_PARALLELISM

PRISM_REMEDY = "go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{version}"
EMBEDDED = ("[auto]", "[local]")
_NETWORK_MB = (256, 1024)  # least and most of an embedded cluster
_CONFIG_NAMES = ("flink-conf.yaml", "config.yaml")  # Flink reads the first that is there


class FlinkStreamingOptions(PipelineOptions):
    """Options of the Flink job server that Beam's Python side does not know by itself, as it spells them."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flink = parser.add_argument_group("Flink job server")
        flink.add_argument("--checkpointing_interval", type=int, help="milliseconds")
        flink.add_argument("--checkpoint_timeout_millis", type=int)
        flink.add_argument("--max_bundle_time_mills", type=int)
        for name in (
            "unaligned_checkpoint_enabled",
            "finish_bundle_before_checkpointing",
            "fail_on_checkpointing_errors",
            "externalized_checkpoints_enabled",
            "retain_externalized_checkpoints_on_cancellation",
        ):
            flink.add_argument(f"--{name}", type=_truth, nargs="?", const=True)
        flink.add_argument("--flink_conf_dir", help="folder with Flink's config.yaml; it wins over what is set here")
        flink.add_argument("--savepoint_path", help="see --resume-from")


_FLINK = (
    ("checkpointing_interval", 5000, "a resumed job goes back at most 5 s"),
    ("unaligned_checkpoint_enabled", True, "a checkpoint does not wait for a shard that is stuck"),
    ("finish_bundle_before_checkpointing", True, "without it some readers never start"),
    ("max_bundle_time_mills", 50, "reports leave within 50 ms, and readers go on at once"),
    ("checkpoint_timeout_millis", 600_000, "a worker that stops for minutes ends no checkpoint"),
    ("fail_on_checkpointing_errors", False, "a checkpoint that fails does not restart the job"),
    ("externalized_checkpoints_enabled", True, "a later run can resume from a checkpoint"),
    ("retain_externalized_checkpoints_on_cancellation", True, "checkpoints outlive the job"),
)


_COMES_BACK = "an error that comes back ends the job, not hidden in restarts"
_RESTARTS_EMBEDDED: list[tuple[str, Any, str]] = [
    ("restart-strategy.type", "failure-rate", _COMES_BACK),
    ("restart-strategy.failure-rate.max-failures-per-interval", 3, "the fourth in ten minutes ends the job"),
    ("restart-strategy.failure-rate.failure-rate-interval", "10 min", "the same"),
]
# The rate counts each task that a machine takes along; this counts once what fails together.
_RESTARTS_ON_CLUSTERS: list[tuple[str, Any, str]] = [
    ("restart-strategy.type", "exponential-delay", _COMES_BACK),
    ("restart-strategy.exponential-delay.initial-backoff", "1 s", "then half as long again each time"),
    ("restart-strategy.exponential-delay.max-backoff", "10 s", "but not longer"),
    ("restart-strategy.exponential-delay.reset-backoff-threshold", "10 s", "a job that runs for so long is well again"),
    ("restart-strategy.exponential-delay.attempts-before-reset-backoff", 10, "as many restarts before that, no more"),
]


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text!r}")
    return text.lower() == "true"


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """What `prepare_streaming` takes beside Beam's options."""

    checkpoint_dir: str | None = declare(
        None, "where they are kept; a folder, or a URI that the cluster can write", group="checkpoints (Flink)"
    )
    resume_from: str | None = declare(
        None, "a checkpoint (its chk-N folder) or savepoint to go on from, or a folder above: the newest whole one",
        group="checkpoints (Flink)",
    )


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """`RunnerOptions` for a parser of one's own."""
    add_parameters(parser, RunnerOptions, defaults=True)


def prepare_streaming(
    options: PipelineOptions,
    shards: int,
    checkpoint_dir: str | None = None,
    resume_from: str | None = None,
    resumable: bool = True,
) -> list[str]:
    """Sets in `options` what the runner needs for a streaming job and the user left open.

    Without a runner, or with DirectRunner, it chooses Prism, if there is one: no other local runner works here.

    Args:
      shards: readers of the job; each wants a slot of its own.
      checkpoint_dir: where Flink keeps checkpoints; a temporary folder on the embedded cluster by default, the
        cluster's own setting otherwise.
      resume_from: the checkpoint or savepoint, on Flink, that the job goes on from.
      resumable: whether checkpoints outlive the job.

    Returns:
      A line "name = value: reason" for each setting, to be shown.

    Raises:
      ValueError: no Prism and no other runner; a job server jar, java or checkpoint that is not there; checkpoints
        asked of a runner that has none.
    """
    if shards < 1:
        raise ValueError(f"shards: must be at least 1, got {shards}")
    standard = options.view_as(StandardOptions)
    name = "" if is_local(options) else str(standard.runner).rpartition(".")[2]
    standard.streaming = True
    lines = ["streaming = True: windows are answered while points come in"]
    if name == "FlinkRunner":
        return lines + _flink(options, shards, checkpoint_dir, resume_from, _FLINK if resumable else _FLINK[:-2])
    for option, value in (("checkpoint_dir", checkpoint_dir), ("resume_from", resume_from)):
        if value:
            raise ValueError(f"{option}: must be left out unless --runner=FlinkRunner, got {value!r}")
    if name in ("", "PrismRunner"):
        return lines + _prism(options, chosen=bool(name))
    if name == "DataflowRunner":
        options.view_as(GoogleCloudOptions).enable_streaming_engine = True
        lines.append("enable_streaming_engine = True: state lives outside of the workers")
    return lines


def prepare_batch(options: PipelineOptions, shards: int) -> list[str]:
    """Sets in `options` what Flink needs for a batch job and the user left open; other runners need nothing.

    Args:
      shards: of the job; in batch they may share slots.

    Returns:
      A line "name = value: reason" for each setting, to be shown.

    Raises:
      ValueError: a job server jar, java or cluster that is not there.
    """
    if not str(options.view_as(StandardOptions).runner).endswith("FlinkRunner"):
        return []
    _require_job_server(options)
    lines, flink = _workers_here(options), options.view_as(FlinkRunnerOptions)
    if flink.parallelism <= 0:
        cluster = cluster_of(options)
        free = (os.cpu_count() or 1) if cluster is None else cluster.free_slots
        flink.parallelism = max(1, min(shards, free))
        lines.append(f"parallelism = {flink.parallelism}: a slot for each shard, as far as there are free ones")
    return lines


def require_runner(options: PipelineOptions, shards: int) -> None:
    """Holds a prepared job against the runner that is there, before anything is submitted; so far, Flink.

    Raises:
      ValueError: a job server for another version, a cluster that does not answer or has too few free slots, no worker
        pool, or one that does not answer.
    """
    flink = options.view_as(FlinkRunnerOptions)
    if not str(options.view_as(StandardOptions).runner).endswith("FlinkRunner"):
        return
    if flink.flink_job_server_jar and "://" not in flink.flink_job_server_jar:
        require_jar(flink.flink_job_server_jar, flink.flink_version)
    cluster = cluster_of(options)
    if cluster is None:
        return
    portable = options.view_as(PortableOptions)
    if portable.environment_type in (None, "DOCKER"):
        raise ValueError(
            "environment_type: must be EXTERNAL on a cluster, with --environment_config=HOST:PORT of the worker pool "
            f"beside each TaskManager, got {portable.environment_type or 'nothing'}"
        )
    cluster.require(flink.flink_version, flink.parallelism, shards)
    if portable.environment_type == "EXTERNAL" and cluster.is_local and portable.environment_config:
        require_pool(portable.environment_config)


def cluster_of(options: PipelineOptions) -> FlinkCluster | None:
    """The running Flink cluster that a job goes to, if it does."""
    flink = options.view_as(FlinkRunnerOptions)
    on_flink = str(options.view_as(StandardOptions).runner).endswith("FlinkRunner")
    return FlinkCluster(flink.flink_master) if on_flink and flink.flink_master not in EMBEDDED else None


def coordinators_of(options: PipelineOptions, shards: int, wanted: int | None) -> tuple[int, list[str]]:
    """How many coordinators decide each window, and what is to be said of that: two on clusters, unless it is said
    otherwise, as one alone holds its windows back when its worker stops.

    Raises:
      ValueError: more than there are workers.
    """
    parallelism, _ = parallelism_of(options, shards)
    runner = str(options.view_as(StandardOptions).runner).rpartition(".")[2]
    on_cluster = runner == "DataflowRunner" or cluster_of(options) is not None
    replicas = (min(2, parallelism) if on_cluster else 1) if wanted is None else wanted
    if not 1 <= replicas <= parallelism:
        raise ValueError(f"coordinator_replicas: must be from 1 to the {parallelism} workers, got {replicas}")
    lines = []
    if wanted is None and replicas > 1:
        lines.append(f"coordinator_replicas = {replicas}: no single worker that stops holds a window back")
    if runner == "DataflowRunner":
        lines.append(
            "placement = the service's: that shards, and replicas of a coordinator, are on different workers is likely "
            "with more workers than that, not promised"
        )
    elif on_cluster and replicas == 1:
        lines.append("coordinator_replicas = 1: a worker that stops holds back the windows that are decided on it")
    return replicas, lines


def domains_of(options: PipelineOptions, shards: int) -> tuple[int, ...] | None:
    """The failure domain of each shard where several share a worker: its subtask; None if they do not."""
    parallelism, _ = parallelism_of(options, shards)
    return tuple(shard % parallelism for shard in range(shards)) if parallelism < shards else None


def parallelism_of(options: PipelineOptions, shards: int) -> tuple[int, int]:
    """(parallelism, max_parallelism) of a prepared job, as `placed_elements` takes them; any runner."""
    flink = options.view_as(FlinkRunnerOptions)
    parallelism = flink.parallelism if flink.parallelism > 0 else shards
    most = flink.max_parallelism
    return parallelism, most if most > 0 else max(MAX_PARALLELISM, 1 << (parallelism - 1).bit_length())


def _prism(options: PipelineOptions, chosen: bool) -> list[str]:
    from apache_beam.version import __version__ as version

    prism = options.view_as(PrismRunnerOptions)
    lines = []
    if not prism.prism_location:
        prism.prism_location = shutil.which("prism")
        if not prism.prism_location:
            remedy = PRISM_REMEDY.format(version=version)
            if chosen:
                raise ValueError(f"prism_location: must be given or prism be on PATH ({remedy}), got neither")
            raise ValueError(
                f"runner: must be --runner=PrismRunner --prism_location=PATH (a Prism by `{remedy}`) or "
                "--runner=FlinkRunner --flink_job_server_jar=PATH for a stream, got none that streams"
            )
        lines.append(f"prism_location = {prism.prism_location}: found on PATH")
    elif "://" not in prism.prism_location and not os.path.isfile(prism.prism_location):
        raise ValueError(f"prism_location: must be a file, got {prism.prism_location!r}")
    if not chosen:
        options.view_as(StandardOptions).runner = "PrismRunner"
        lines.insert(0, "runner = PrismRunner: the other local runners do not stream")
    return lines


def _flink(
    options: PipelineOptions,
    shards: int,
    checkpoint_dir: str | None,
    resume_from: str | None,
    wanted: Sequence[tuple[str, Any, str]],
) -> list[str]:
    flink, streaming = options.view_as(FlinkRunnerOptions), options.view_as(FlinkStreamingOptions)
    embedded = flink.flink_master in EMBEDDED
    _require_job_server(options)
    lines = _parallelism(options, shards)
    for name, value, why in wanted:
        if getattr(streaming, name) is None:
            setattr(streaming, name, value)
            lines.append(f"{name} = {value}: {why}")
    lines += _workers_here(options)
    kept = "checkpoints are kept here; see --resume-from"
    if embedded and not checkpoint_dir:
        checkpoint_dir = tempfile.mkdtemp(prefix="beam-coresets-checkpoints-")
        atexit.register(shutil.rmtree, checkpoint_dir, ignore_errors=True)
        kept = "checkpoints go away with the job; --checkpoint-dir keeps them"
    checkpoint = checkpoints.existing(resume_from) if resume_from else None
    if checkpoint and not streaming.savepoint_path:
        streaming.savepoint_path = checkpoint
    settings = _cluster_settings(shards, embedded, _uri(checkpoint_dir) if checkpoint_dir else None, checkpoint, kept)
    return lines + _write_settings(streaming, settings)


def _workers_here(options: PipelineOptions) -> list[str]:
    """On an embedded cluster."""
    portable = options.view_as(PortableOptions)
    if options.view_as(FlinkRunnerOptions).flink_master not in EMBEDDED or portable.environment_type:
        return []
    portable.environment_type = "LOOPBACK"
    return ["environment_type = LOOPBACK: without --flink_master, workers run in this process"]


def _require_job_server(options: PipelineOptions) -> None:
    """Says at once what Beam would only find out, or try to download, later."""
    jar = options.view_as(FlinkRunnerOptions).flink_job_server_jar
    if jar and "://" not in jar and not os.path.isfile(jar):
        raise ValueError(f"flink_job_server_jar: must be a file, got {jar!r}")
    launcher = options.view_as(JobServerOptions).job_server_java_launcher
    if not options.view_as(PortableOptions).job_endpoint and shutil.which(launcher) is None:
        raise ValueError(f"job_server_java_launcher: must be a program (Java 11 or later, for Flink), got {launcher!r}")


def _parallelism(options: PipelineOptions, shards: int) -> list[str]:
    flink = options.view_as(FlinkRunnerOptions)
    parallelism, most = parallelism_of(options, shards)
    lines = []
    if flink.parallelism <= 0:
        flink.parallelism = parallelism
        lines.append(f"parallelism = {parallelism}: each shard has a slot of its own")
    elif parallelism < shards:
        lines.append(f"parallelism = {parallelism}, as given: shards share slots, and a stuck one stops its neighbours")
    if flink.max_parallelism <= 0:
        flink.max_parallelism = most
        lines.append(f"max_parallelism = {most}: the placement of shards depends on it")
    return lines


def _uri(folder: str) -> str:
    return folder if checkpoints.is_uri(folder) else pathlib.Path(folder).resolve().as_uri()


def _cluster_settings(
    shards: int, embedded: bool, checkpoints: str | None, resume_from: str | None, kept: str
) -> list[tuple[str, Any, str]]:
    """Settings that only Flink's own configuration has."""
    least, most = _NETWORK_MB
    network = f"{min(most, max(least, 32 * shards))}m"
    buffers = "reports to a coordinator that stands still must not halt the readers"
    found = _RESTARTS_EMBEDDED[:] if embedded else _RESTARTS_ON_CLUSTERS[:]
    if embedded:  # a running cluster has its own
        found += [
            ("taskmanager.network.memory.max-buffers-per-channel", 400, buffers),
            ("taskmanager.network.memory.floating-buffers-per-gate", 200, buffers),
            ("taskmanager.memory.network.min", network, buffers),
            ("taskmanager.memory.network.max", network, buffers),
            ("state.checkpoints.num-retained", 3, "the newest may be damaged when a machine goes down"),
        ]
    if checkpoints:
        found.append(("state.checkpoints.dir", checkpoints, kept))
    if resume_from:
        found.append(("execution.savepoint.path", resume_from, "the job goes on from here"))
    return found


def _write_settings(streaming: FlinkStreamingOptions, settings: list[tuple[str, Any, str]]) -> list[str]:
    """Writes them as the configuration folder that the job server reads, under what the user's own says."""
    own, name = "", "config.yaml"
    if streaming.flink_conf_dir:
        folder = pathlib.Path(streaming.flink_conf_dir)
        files = [folder / name for name in _CONFIG_NAMES if (folder / name).is_file()]
        if not files:
            raise ValueError(f"flink_conf_dir: must be a folder with config.yaml, got {streaming.flink_conf_dir!r}")
        own, name = files[0].read_text(), files[0].name
    given = {line.partition(":")[0].strip() for line in own.splitlines()}
    kept = [setting for setting in settings if setting[0] not in given]
    target = pathlib.Path(tempfile.mkdtemp(prefix="beam-coresets-flink-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    text = "".join(f"{key}: {value}\n" for key, value, _ in kept)
    (target / name).write_text(text + own)  # the later of two forms of one key wins
    streaming.flink_conf_dir = str(target)
    return [f"{key} = {value}: {why}" for key, value, why in kept]
