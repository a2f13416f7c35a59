"""WriteByTime: rows alike in all fields are one, whoever tells them; the watermark does not matter."""
import apache_beam as beam
from apache_beam.testing import test_stream
from jobs import run

from beam_coresets import table_schemas, tables
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.writing.write_by_time import WriteByTime


def now():
    return 100.0


def test_letters_that_several_shards_tell_are_written_once(tmp_path):
    letters = [DeadLetter("nan", "x", "topic", f"partition 0 offset {i}", str(i)) for i in range(20)]
    events = (
        test_stream.TestStream(coder=beam.coders.registry.get_coder(DeadLetter))
        .advance_watermark_to(0)
        .add_elements(letters)
        .add_elements(letters[::-1])
        .advance_processing_time(200)
    )
    step = WriteByTime(str(tmp_path), "dead_letters", table_schemas.DEAD_LETTERS, clock=now)
    held, _ = run(lambda p: {"paths": p | events | step}, ("--runner=BundleBasedDirectRunner", "--streaming"))
    assert held["paths"]
    found = [row for path in held["paths"] for row in _read(path)]
    assert sorted(found, key=str) == sorted((letter._asdict() for letter in letters), key=str)


def _read(path):
    with open(path, "rb") as file:
        return tables.decode(file.read(), "parquet").to_pylist()
