"""`beam-coresets stream` as a whole: a real broker, Flink's embedded cluster, shards that are stuck, and kills."""
import collections
import json
import os
import time

import pytest

pytest.importorskip("confluent_kafka")
from confluent_kafka import Producer
from streaming_job import PATIENCE, StreamingJob, checkpoints_in, last_of_each
from topics import DIM, Producing, committed, make_topic, messages_in, points_by_window

from beam_coresets.pipelines.main import main
from beam_coresets.table_schemas import in_seconds
from beam_coresets.times import moment
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.stored_tables import read_table

pytestmark = pytest.mark.kafka
SHARDS = 4
JAR = "BEAM_CORESETS_FLINK_JAR"


@pytest.fixture
def stream(tmp_path):
    """Starts `beam-coresets stream` on the embedded cluster, `stream("run 1", topic, broker, *options)`."""
    jar = os.environ.get(JAR)
    if not jar:
        pytest.skip(f"needs a Flink job server: run `make test-kafka` (or set {JAR} to its jar)")
    jobs = []

    def start(name, topic, broker, *options):
        words = ["-m", "beam_coresets.pipelines.main", "stream", "--runner=FlinkRunner", "--flink_version=1.19",
                 f"--flink_job_server_jar={jar}", f"--output={tmp_path / 'out'}", f"--topic={topic}",
                 f"--bootstrap_servers={broker.servers}", "--message_format=block", f"--dim={DIM}",
                 "--start=earliest", f"--group={topic}", f"--shards={SHARDS}", "--replication=2", "--k=5",
                 "--coreset_size=400"]  # fmt: skip
        jobs.append(StreamingJob([*words, *map(str, options)], tmp_path / name))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


def rows_in(folder, table):
    return in_seconds(read_table(str(folder), table)).to_pylist() if (folder / table).exists() else []


def windows_in(folder):
    """Start -> the row of revision 1; fails if a window has two."""
    rows = [row for row in rows_in(folder, "summaries") if row["revision"] == 1]
    count = collections.Counter(row["window_start"] for row in rows)
    assert all(n == 1 for n in count.values()), count
    return {row["window_start"]: row for row in rows}


def readers_started(job, broker, topic, seconds=PATIENCE):
    """Waits until every shard's reader has committed its offsets."""
    job.wait_for(lambda: len(committed(broker, topic, topic, SHARDS)) == SHARDS, "all readers", seconds)


def decided(folder):
    """How many windows are."""
    return len(Claims(str(folder)).claimed_since(()))


def covers(folder, expected):
    """Whether all of these windows are decided."""
    return {start for (start,) in expected} <= set(windows_in(folder))


def weights(folder):
    return {start: row["total_weight"] for start, row in windows_in(folder).items() if row["total_weight"]}


def exact(expected):
    return {start: pytest.approx(points, rel=1e-9) for (start,), points in expected.items()}


def held_after_its_start(stream, broker, folder, shard, seconds, *options):
    """A job one of whose shards is held for some seconds once all readers run, its topic, its output, and the seconds
    from now until the shard has gone on for a while.

    The hold counts from the launch, so a job that starts too late for it is given up for another one.
    """
    hold_from = 60
    for attempt in range(3):
        topic, launched = make_topic(broker), time.monotonic()
        words = [f"--output={folder / topic}", "--hold_shards", f"{shard}:{hold_from}s:{seconds}s", *options]
        job = stream(f"{folder.name}-{attempt}", topic, broker, *words)
        readers_started(job, broker, topic, 3 * PATIENCE)
        took = time.monotonic() - launched
        if took < hold_from - 10:
            return job, topic, folder / topic, hold_from + seconds + 25 - took
        job.kill()
        hold_from = round(took) + 60
    raise AssertionError(f"the readers took {took:.0f} s to start")


def held_run(stream, broker, folder):
    """A minute or more with shard 2 stuck for 20 s of it; the output, and the points by window and partition."""
    job, topic, folder, seconds = held_after_its_start(
        stream, broker, folder, 2, 20, "--window=5s", "--deadline=5s"
    )
    Producing(broker, topic, 100_000, seconds).finish()
    expected = points_by_window(broker, topic, 5, lambda message: (message.partition(),))
    starts = {(start,): 0 for start, _ in expected}
    job.wait_for(lambda: covers(folder, starts), "a summary for every window")
    last = max(start for start, row in windows_in(folder).items() if row["stragglers"])
    job.wait_for(lambda: has_told_all(folder, expected, last), "the late reports")
    job.kill()
    return folder, expected


def has_told_all(folder, expected, start):
    """Whether what was late of a window is in `late` whole: a shard tells it in several reports."""
    late = collections.Counter()
    for row in rows_in(folder, "late"):
        late[row["window_start"], row["part"]] += row["row_count"]
    found = {part: rows for (of, part), rows in late.items() if of == start}
    return len(found) == 4 and all(rows >= expected[start, part] for part, rows in found.items())


def since_points(folder):
    """The rows from the first window with points on: those before it end before the readers have started."""
    rows = [row for _, row in sorted(windows_in(folder).items())]
    return rows[next(i for i, row in enumerate(rows) if row["points"]) :]


def in_time(rows):
    return all(row["decided_at"] - row["window_end"] <= 5 + 1.5 for row in rows)


def test_a_window_comes_on_time_whatever_a_shard_does(stream, broker, tmp_path):
    folder, by_part = held_run(stream, broker, tmp_path / "first")
    if not in_time(since_points(folder)):  # the machine may have stood still: once more, then it is us
        folder, by_part = held_run(stream, broker, tmp_path / "second")
    rows = since_points(folder)
    assert in_time(rows), [(row["window_end"], row["decided_at"] - row["window_end"]) for row in rows]
    assert [row["window_start"] for row in rows] == [rows[0]["window_start"] + 5 * i for i in range(len(rows))]

    total = collections.Counter()
    for (start, _), points in by_part.items():
        total[start,] += points
    assert weights(folder) == exact(total)
    assert all(row["coverage"] == 1 for row in rows)

    without = [i for i, row in enumerate(rows) if row["stragglers"]]
    assert len(without) >= 3, "20 s hold at least three windows of 5 s with a deadline of 5 s"
    assert without == list(range(without[0], without[-1] + 1))
    assert all(rows[i]["stragglers"] == [2] and rows[i]["responded"] == [0, 1, 3] for i in without)
    assert rows[without[-1] + 1]["responded"] == [0, 1, 2, 3]
    assert all(rows[i]["responded"] == [0, 1, 2, 3] for i in range(len(rows)) if i not in without)
    late_rows_are(folder, by_part, [rows[i]["window_start"] for i in without])


def late_rows_are(folder, by_part, starts):
    """What the held shard had to say about these windows is in `late`, partition by partition."""
    late = collections.Counter()
    for row in rows_in(folder, "late"):
        assert (row["shard"], row["reason"]) == (2, "the window was decided without it")
        late[row["window_start"], row["part"]] += row["row_count"]
    parts = {part for _, part in late}
    assert len(parts) == 4, "half of the partitions: each is held by two of four shards"
    assert set(late) >= {(start, part) for start in starts[2:] for part in parts}
    for (start, part), rows in late.items():
        assert start in starts
        if start in starts[:2]:  # stopped in the one, or in the next before it had told the end of the one
            assert rows <= by_part[start, part]
        else:
            assert rows == by_part[start, part]


def announced(broker, topic, table="summaries"):
    """(start, key of messages) -> the distinct rows that the output topic has of the table, as JSON."""
    found = collections.defaultdict(set)
    for message in messages_in(broker, topic):
        if dict(message.headers())["table"] == table.encode():
            start, _, key = json.loads(message.key())
            found[moment(start), key].add(message.value())
    return found


def one_decision_each(broker, topic, folder, starts):
    """The tables and the output topic have one first revision a window, and the same one; these windows are told.

    A window that was decided just before the job was killed is in the tables, and would be told by the next job.
    """
    rows = windows_in(folder)
    heard = announced(broker, topic)
    assert set(starts) <= {start for start, _ in heard} <= set(rows)
    for (start, _), values in heard.items():
        (value,) = values
        told = json.loads(value)
        for name in ("total_weight", "responded", "centers"):
            assert told[name] == rows[start][name]
        assert moment(told["decided_at"]) == pytest.approx(rows[start]["decided_at"], abs=1e-5)


def went_without(folder, shard):
    """Whether a window with points has been decided without the shard."""
    return any(row["points"] and row["stragglers"] == [shard] for row in windows_in(folder).values())


def test_a_job_killed_twice_counts_every_message_in_exactly_one_window(stream, broker, tmp_path):
    """Once while a shard is stuck, to go on from a checkpoint; once more, to start again from committed offsets."""
    topic, heard, checkpoints = make_topic(broker), make_topic(broker, 1), tmp_path / "checkpoints"
    folder = tmp_path / "out"
    options = ["--window=2s", "--deadline=2s", f"--output_topic={heard}", f"--checkpoint_dir={checkpoints}",
               "--checkpointing_interval=2000"]  # fmt: skip
    first = stream("first", topic, broker, *options, "--hold_shards", "1:32s:60s")
    readers_started(first, broker, topic)
    producing = Producing(broker, topic, 60_000, 45)
    first.wait_for(lambda: went_without(folder, 1), "a window without the shard that is stuck")
    first.kill()
    before = windows_in(folder)

    retained = checkpoints_in(checkpoints)[-1]
    second = stream("second", topic, broker, *options, f"--resume_from={retained}")
    second.wait_for(lambda: decided(folder) >= len(before) + 4, "some windows of the second run")
    second.kill()
    before |= windows_in(folder)

    third = stream("third", topic, broker, *options, "--start=committed")
    producing.finish()
    expected = points_by_window(broker, topic, 2)
    third.wait_for(lambda: covers(folder, expected), "a summary for every window")
    starts = list(windows_in(folder))
    third.wait_for(lambda: {start for start, _ in announced(broker, heard)} >= set(starts), "all announcements")
    third.kill()
    assert weights(folder) == exact(expected)
    after = windows_in(folder)
    assert all(repr(after[start]) == repr(row) for start, row in before.items()), "what was decided stands"
    one_decision_each(broker, heard, folder, starts)


def test_late_reports_that_complete_a_window_revise_it(stream, broker, tmp_path):
    job, topic, folder, seconds = held_after_its_start(
        stream, broker, tmp_path, 1, 10, "--window=2s", "--deadline=2s", "--replication=1", "--min_shards=3", "--revise"
    )
    Producing(broker, topic, 20_000, seconds).finish()
    expected = points_by_window(broker, topic, 2)
    job.wait_for(lambda: covers(folder, expected), "a summary for every window")

    def revised():
        rows = rows_in(folder, "summaries")
        # decided by the cap: windows from before a shard had started, of which nothing more comes
        partly = {row["window_start"] for row in rows if row["coverage"] < 1 and row["reason"] != "cap"}
        return partly and partly <= {row["window_start"] for row in rows if row["revision"] == 2}

    job.wait_for(revised, "the revisions")
    job.kill()
    first = windows_in(folder)
    second = {row["window_start"]: row for row in rows_in(folder, "summaries") if row["revision"] == 2}
    assert len(second) >= 2, "10 s hold at least two windows of 2 s with a deadline of 2 s"
    for start, row in second.items():
        before = first[start]
        assert (before["stragglers"], before["reason"]) == ([1], "deadline")
        assert before["coverage"] < 1
        assert before["total_weight"] <= expected[(start,)]
        assert (row["responded"], row["coverage"]) == ([0, 1, 2, 3], 1)
        assert row["decided_at"] >= before["decided_at"]
    assert any(first[start]["total_weight"] < expected[(start,)] for start in second)
    last = {**first, **second}
    assert {start: row["total_weight"] for start, row in last.items() if row["points"]} == exact(expected)


def test_windows_wait_for_transactions_that_are_committed_before_the_deadline(stream, broker, tmp_path):
    """As exactly-once sinks write: nothing is to be seen for seconds, and then all of it."""
    topic, folder = make_topic(broker, 2), tmp_path / "out"
    job = stream("run", topic, broker, "--window=2s", "--deadline=60s", "--cap=90s", "--message_format=json",
                 "--columns=x,y", "--dim=2")  # fmt: skip
    job.wait_for(lambda: decided(folder), "a window of an empty topic", 3 * PATIENCE)
    producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    truth = collections.Counter()
    for kept in (True, False, True):
        producer.begin_transaction()
        began = time.monotonic()
        while time.monotonic() < began + 5:
            for part in range(2):
                at = int(1000 * time.time())
                producer.produce(topic, json.dumps({"x": at % 7, "y": at % 3}), partition=part, timestamp=at)
                truth[at // 2000 * 2] += kept
            producer.poll(0.1)
        assert producer.flush(60) == 0
        (producer.commit_transaction if kept else producer.abort_transaction)(30)
    wanted = {(start,) for start, count in truth.items() if count}
    job.wait_for(lambda: covers(folder, wanted), "a summary for every window", 2 * PATIENCE)
    job.kill()
    rows = windows_in(folder)
    whole = {start for start, row in rows.items() if row["coverage"] == 1 and row["reason"] == "all"}
    assert {start: rows[start]["points"] for start in whole} == {start: truth[start] for start in whole}
    assert whole >= {start for (start,) in wanted}
    assert all(row["partial"] == 0 for start, row in rows.items() if start in whole)


def test_a_broker_that_is_away_is_waited_for(stream, make_broker, tmp_path):
    broker, folder = make_broker(), tmp_path / "out"
    broker.start()
    # the broker's own time: what is written while nobody can write has the time at which it got there
    topic = make_topic(broker, **{"message.timestamp.type": "LogAppendTime"})
    broker.kill()
    job = stream("run", topic, broker, "--window=2s", "--deadline=2s")
    job.wait_for(lambda: "waiting for the broker" in job.output, "a word about the broker at the start")
    assert not folder.exists()
    broker.start()
    readers_started(job, broker, topic)
    said = job.output.count("waiting for the broker")
    producing = Producing(broker, topic, 20_000, 16)
    job.wait_for(lambda: weights(folder), "a window with points")
    broker.kill()
    job.wait_for(lambda: job.output.count("waiting for the broker") > said, "a word about the broker in the middle")
    broker.start()
    producing.finish()
    expected = points_by_window(broker, topic, 2)
    job.wait_for(lambda: covers(folder, expected), "a summary for every window")
    job.kill()
    assert weights(folder) == exact(expected)
    assert not rows_in(folder, "late")


def test_messages_that_can_not_be_read_are_dead_letters(stream, broker, tmp_path):
    """Written before the job began, so each partition begins in another window."""
    topic, folder = make_topic(broker), tmp_path / "out"
    now = time.time()
    good = [{"a": float(i % 7), "b": 1.5 * i, "at": now - 5 + 0.01 * i} for i in range(400)]
    row = {"a": 1.0, "b": 2.0, "at": now}
    bad = [b"not json", json.dumps({"a": 1.0, "at": now}).encode(), None, b"[1, 2]",
           *(json.dumps({**row, **wrong}).encode() for wrong in (
               {"a": "x"}, {"a": None}, {"b": float("nan")}, {"at": None}, {"at": "soon"}, {"at": now + 3600},
               {"at": now - 40 * 86400}, {"at": -5}))]  # fmt: skip
    producer = Producer({"bootstrap.servers": broker.servers, "log_level": 0})
    for i, value in enumerate(bad):
        producer.produce(topic, value, partition=i % 2)
    for i, row in enumerate(good):  # a partition after the other, and most have nothing
        producer.produce(topic, json.dumps(row), partition=i // 134)
    producer.flush(30)
    job = stream("run", topic, broker, "--message_format=json", "--columns=a,b", "--dim=2", "--time_field=at",
                 "--window=2s", "--deadline=2s")  # fmt: skip
    wanted = collections.Counter(row["at"] // 2 * 2 for row in good)
    job.wait_for(lambda: covers(folder, {(start,) for start in wanted}), "a summary for every window")
    job.wait_for(lambda: len(rows_in(folder, "dead_letters")) >= len(bad), "the dead letters")
    job.kill()
    assert weights(folder) == {start: pytest.approx(count, rel=1e-9) for start, count in wanted.items()}
    assert all(row["responded"] == [0, 1, 2, 3] for row in windows_in(folder).values())
    letters = rows_in(folder, "dead_letters")
    assert sorted((row["source"], row["position"]) for row in letters) == sorted(
        (topic, f"partition {i % 2} offset {i // 2}") for i in range(len(bad))
    )
    assert all(row["reason"] for row in letters)


@pytest.mark.parametrize(("options", "message"), [
    (["--topic=nobody-knows-it"], "topic: must exist, got 'nobody-knows-it' (have: "),
    (["--output-topic=nor-this-one"], "output_topic: must exist, got 'nor-this-one'"),
    (["--start", "OFFSETS"], "offset: must be in what the broker has of "),
    (["--kafka-config", "CONFIG"], "kafka_config: must give access to "),
])  # fmt: skip
def test_what_the_broker_does_not_have_is_said_before_anything_runs(broker, tmp_path, capsys, options, message):
    pytest.importorskip("confluent_kafka")
    topic = make_topic(broker, 1)
    (tmp_path / "offsets.json").write_text('{"0": 17}')
    (tmp_path / "wrong.properties").write_text(
        f"bootstrap.servers={broker.sasl_servers}\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
        "sasl.username=somebody\nsasl.password=not-this-one\n"
    )
    files = {"OFFSETS": tmp_path / "offsets.json", "CONFIG": tmp_path / "wrong.properties"}
    words = ["stream", f"--topic={topic}", f"--output={tmp_path / 'out'}", "--k=3", "--message_format=block",
             "--dim=8", "--runner=FlinkRunner", f"--flink_job_server_jar={__file__}"]  # fmt: skip
    servers = [] if "CONFIG" in options else [f"--bootstrap_servers={broker.servers}"]
    given = [str(files.get(word, word)) for word in options]
    assert main(last_of_each([*words, *servers, *given])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert "not-this-one" not in line
