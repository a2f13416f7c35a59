"""`beam-coresets stream` on Beam's runner in this process: its sources end, a topic is in memory, timers never fire.

Every shard reads its parts to the end, so every window is final and is decided without a timer. To be installed in a
process that does nothing else.
"""

import functools
import json
import time

import numpy as np
from apache_beam.runners.portability.fn_api_runner import fn_runner

from beam_coresets.pipelines import stream
from beam_coresets.pipelines.console import stream_options
from beam_coresets.pipelines.running import runners
from beam_coresets.transforms.streams.brokers import kafka
from beam_coresets.transforms.streams.folder import source as folder
from beam_coresets.transforms.streams.messages.decoding import Messages
from beam_coresets.transforms.streams.rate import RateReader, RateSource

PARTS, MESSAGES, SPACING = 2, 30, 0.25  # of a topic: so many rows a part, one a message, so many seconds apart
GENERATED = 120  # points of `--rate`
_ROWS, _AGE = 10, 20


def install():
    """Changes this process for good."""
    runners._prism = lambda options, chosen: []
    stream_options.RateSource = _generated
    stream_options.Folder = _Folder
    kafka.KafkaSource = _Topic
    stream.require_topic = lambda config, topic: None
    import confluent_kafka

    confluent_kafka.Producer = _Producer
    fn_runner.FnApiRunner._collect_written_timers = lambda self, context: ({}, {})


class _Generated(RateSource):
    @property
    def bounded(self):
        return True

    def reader(self, shard, shards):
        return _GeneratedReader(self)


class _GeneratedReader(RateReader):
    def ended(self, part):
        return self._positions[part] >= self._source.stop


def _generated(parts=RateSource.parts, rows=None, **options):
    many = -(-GENERATED // (_ROWS * parts)) if parts >= 1 else 1
    return _Generated(**options, parts=parts, rows=_ROWS, stop=many, t0=time.time() // 1 - _AGE)


class _Folder(folder.Folder):
    def __init__(self, *given, **options):
        super().__init__(*given, settle=0.0, **options)

    @property
    def bounded(self):
        return True

    def reader(self, shard, shards):
        return _FolderReader(self)


class _FolderReader(folder.FolderReader):
    def ended(self, part):
        return self.caught_up(part)


class _Topic(kafka.KafkaSource):
    @property
    def bounded(self):
        return True

    def starts(self):
        return dict.fromkeys(range(PARTS), 0)

    def since(self, starts, now):
        return {}

    def reader(self, shard, shards):
        return _TopicReader(self)


@functools.cache
def begin():
    """When the topic's first messages came: the same for every reader of this process."""
    return time.time() // 1 - _AGE


class _TopicReader:
    def __init__(self, source):
        self._source, self._positions, self._begin = source, {}, begin()

    def seek(self, positions):
        self._positions = dict(positions)

    def read(self, seconds):
        return [self._chunk(part, start) for part, start in self._positions.items() if start < MESSAGES]

    def _chunk(self, part, start):
        numbers = np.arange(start, MESSAGES)
        rows = [message_row(part, int(i), self._begin) for i in numbers]
        times = self._begin + numbers * SPACING
        messages = Messages(
            "topic",
            f"partition {part}",
            numbers,
            times,
            [str(row["g"]).encode() for row in rows],
            [json.dumps(row).encode() for row in rows],
            part,
            start,
        )
        self._positions[part] = MESSAGES
        return self._source.format.decode(messages, self._source.event_time, time.time())

    def caught_up(self, part):
        return self._positions[part] >= MESSAGES

    ended = drained = caught_up

    def age(self, part):
        return 0.0

    def new_parts(self):
        return {}

    def knows_parts(self, since):
        return True

    def commit(self, positions):
        pass

    def close(self):
        pass


def message_row(part, number, begin):
    """What a message of the topic holds."""
    i = part * MESSAGES + number
    return {
        "id": i,
        "x": 10.0 * (i % 3) + i % 7,
        "y": i % 5 - 1.5,
        "z": float(i),
        "w": 1.0 + i % 3,
        "g": "abc"[i % 3],
        "name": f"Zeile {i} ü",
        "größe": i % 7,
        "t": begin + number * SPACING,
        "v": [float(i % 5), float(i % 3), 1.0, i],
    }


class _Producer:
    def __init__(self, config):
        pass

    def produce(self, *given, **more):
        pass

    def flush(self, *given):
        return 0

    def poll(self, *given):
        return 0
