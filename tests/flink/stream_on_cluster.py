"""A `stream` job on a real cluster, fed from a real broker, watched from outside."""
import contextlib
import pathlib

from cluster import go_on
from streaming_job import StreamingJob
from topics import committed, make_topic, points_by_window

from beam_coresets.summaries.claim_records import place_of
from beam_coresets.table_schemas import in_seconds
from beam_coresets.transforms.writing.claims import Claims

SHARDS = 3
WINDOW = DEADLINE = 3


class StreamOnCluster:
    """One topic, one job, one output folder; its windows are `WINDOW` seconds long, their deadline `DEADLINE`.

    Args:
      cluster: a running one with a slot for each of three shards. broker: a running one.
      folder: for the output, the job's log, its checkpoints.
      options: of `stream`, beside or in place of these here.
      dim: of the points. script: in place of the `stream` command.
    """

    def __init__(self, cluster, broker, folder, *options, dim=8, script=None):
        self.cluster, self.broker, self.folder, self.dim = cluster, broker, pathlib.Path(folder), dim
        self.output, self.checkpoints = self.folder / "out", self.folder / "checkpoints"
        self.topic = make_topic(broker)
        self._options, self._runs = options, 0
        self._command = ["-m", "beam_coresets.pipelines.main", "stream"] if script is None else [script]
        self.job = self.id = None

    def start(self, *more, wait=True):
        """Submits the job, and again after it has ended; returns when all shards read."""
        self._runs += 1
        words = [*self._command, *self.cluster.options, f"--output={self.output}",
                 f"--topic={self.topic}", f"--bootstrap_servers={self.broker.servers}", "--message_format=block",
                 f"--dim={self.dim}", "--start=earliest", f"--group={self.topic}", f"--shards={SHARDS}",
                 "--replication=2", "--k=5", "--coreset_size=400", f"--window={WINDOW}s", f"--deadline={DEADLINE}s",
                 f"--checkpoint_dir={self.checkpoints}"]  # fmt: skip
        self.job = StreamingJob([*words, *self._options, *more], self.folder / f"run{self._runs}")
        if wait:
            self.job.wait_for(lambda: self.cluster.jobs(), "the job on the cluster")
            self.id = self.cluster.running_job()
            self.readers_started()
        return self

    def readers_started(self):
        """Waits until every shard has committed offsets."""
        self.job.wait_for(
            lambda: len(committed(self.broker, self.topic, self.topic, SHARDS)) == SHARDS, "all readers"
        )

    def close(self):
        """Ends the job, whatever state it is in."""
        for worker in self.cluster.workers().values():
            go_on(worker)
        if self.job is not None:
            self.job.kill()
        with contextlib.suppress(OSError):  # the JobManager may have been killed
            for job in self.cluster.jobs():
                self.cluster.cancel(job)

    def topic_points(self):
        """Start of the window -> points that were written."""
        return {start: n for (start,), n in points_by_window(self.broker, self.topic, WINDOW, dim=self.dim).items()}

    def rows(self):
        """Start of the window -> its row of revision 1; a window is in the tables once or not at all."""
        claims, found = Claims(str(self.output)), {}
        for name in claims.claimed_since(()):
            start, _, _, revision, _ = place_of(name)
            (row,) = in_seconds(claims.read(name, "summaries")).to_pylist()
            assert (row["window_start"], row["revision"]) == (start, revision)
            if revision == 1:
                assert start not in found
                found[start] = row
        return found

    def lags(self):
        """Start of the window -> seconds from its end until its decision was claimed."""
        found = {}
        for path in (self.output / ".claims").glob("*.json"):
            start, end, _, revision, _ = place_of(path.stem)
            if revision == 1:
                found[start] = path.stat().st_mtime - end
        return found

    def all_windows(self):
        """Waits until all that was written is in decided windows; (their rows, what was written) by start."""
        expected = self.topic_points()
        self.job.wait_for(lambda: set(expected) <= set(self.lags()), "a summary for every window")
        return self.rows(), expected
