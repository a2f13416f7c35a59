"""Letters that are written bundle by bundle, by every holder of a part, are the ordinary job's in the end."""
import apache_beam as beam
from jobs import rows_in, run

from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.writing.dead_letters import WriteDeadLetters, WriteLettersEarly, take_letters

LETTERS = [DeadLetter("nan", "x0", f"in/f{i % 2}.csv", f"row {i}", "a,b") for i in range(12)]


def test_the_letters_are_those_of_the_ordinary_job_once_each(tmp_path):
    run(lambda p: {"out": p | beam.Create(LETTERS) | WriteDeadLetters(str(tmp_path / "plain"), "jsonl")})
    early = tmp_path / "early"
    for some in (LETTERS[:7], LETTERS[3:], LETTERS[3:]):
        run(lambda p, some=some: {"out": p | beam.Create(some) | WriteLettersEarly(str(early))})
    assert not (early / "dead_letters").exists(), "not before somebody takes them"
    assert sorted(take_letters(str(early), "jsonl")) == sorted(LETTERS)
    assert rows_in(early, "dead_letters") == rows_in(tmp_path / "plain", "dead_letters")
    assert not (early / ".staging" / "letters").exists()


def test_without_letters_there_is_no_table(tmp_path):
    assert take_letters(str(tmp_path), "avro") == []
    assert not (tmp_path / "dead_letters").exists()
