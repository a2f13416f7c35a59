"""Writes points to a Kafka topic at a steady rate: packed blocks, JSON rows or Avro rows, stamped with the time at
which they are due. For `benchmarks/stream.py`, the README's walk-through, and tests."""
import argparse
import io
import json
import sys
import time

import fastavro
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from beam_coresets.datasets.synthetic import GaussianMixture

SCHEMA = {"type": "record", "name": "Point", "fields": [{"name": f"f{i}", "type": "float"} for i in range(8)]}
POOL = 64


def messages(form, rows, dim, seed):
    """A pool of encoded messages; a block holds `rows` points, the others one."""
    points = GaussianMixture(seed=seed, d=dim, k=20).block(0, rows * POOL).astype("<f4")
    if form == "block":
        return [points[i * rows : (i + 1) * rows].tobytes() for i in range(POOL)]
    names = [f"f{i}" for i in range(dim)]
    records = [dict(zip(names, row, strict=True)) for row in points.astype(float).tolist()]
    if form == "json":
        return [json.dumps(record).encode() for record in records]
    out = []
    for record in records:
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(SCHEMA), record)
        out.append(buffer.getvalue())
    return out


def create(servers, topic, partitions):
    """Makes the topic unless it is there."""
    admin = AdminClient({"bootstrap.servers": servers})
    if topic not in admin.list_topics(timeout=30).topics:
        for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result()


def produce(servers, topic, partitions, rate, seconds, form="block", rows=4096, dim=8, seed=0, keys=0):
    """Writes `rate` points a second for so long, the messages of a partition keyed "key-0", "key-1", ... in turns if
    there are `keys`; returns how many points there were."""
    pool = messages(form, rows, dim, seed)
    each = rows if form == "block" else 1
    producer = Producer({
        "bootstrap.servers": servers, "linger.ms": 5, "batch.size": 1_000_000, "queue.buffering.max.kbytes": 262_144,
        "queue.buffering.max.messages": 1_000_000, "compression.type": "none",
        "enable.idempotence": True,  # or what is sent again after an outage comes seconds out of order
    })  # fmt: skip
    began, sent = time.time(), 0
    while True:
        due = min(int((time.time() - began) * rate / each), int(seconds * rate / each))
        while sent < due:
            at = began + sent * each / rate
            try:
                producer.produce(
                    topic, pool[sent % len(pool)], f"key-{sent // partitions % keys}" if keys else None,
                    partition=sent % partitions, timestamp=int(at * 1000),
                )  # fmt: skip
                sent += 1
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
        if time.time() - began >= seconds and sent >= int(seconds * rate / each):
            break
        time.sleep(0.005)
    producer.flush()
    return sent * each


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default="localhost:9092")
    parser.add_argument("--topic", default="points")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--rate", type=float, default=100_000, help="points a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--form", default="block", choices=("block", "json", "avro"))
    parser.add_argument("--rows", type=int, default=4096, help="points of a block")
    parser.add_argument("--keys", type=int, default=0, help="how many keys messages have (default: none)")
    args = parser.parse_args()
    create(args.servers, args.topic, args.partitions)
    began = time.time()
    total = produce(
        args.servers, args.topic, args.partitions, args.rate, args.seconds, args.form, args.rows, keys=args.keys
    )
    print(f"{total:,} points in {time.time() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
