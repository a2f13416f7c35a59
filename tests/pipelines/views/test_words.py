"""What is said of a window: true of its row, whatever that is."""
import pytest
from windows_written import answer, minute, write, write_minutes

from beam_coresets.pipelines.views import words
from beam_coresets.pipelines.views.contents import contents_at


def row(**changes):
    return {**answer(minute(0), 0).summaries.to_pylist()[0], **changes}


@pytest.mark.parametrize(("value", "text"), [
    (None, "unknown"), (0.0, "0"), (12.3456, "12.35"), (1234.5, "1,234"), (-1234567.0, "-1,234,567"),
    (1.5e-7, "1.5e-07"), (2e17, "2e+17"), (0.001234, "0.001234"),
])  # fmt: skip
def test_numbers_read_well(value, text):
    assert words.number(value) == text


def test_a_whole_window_says_so():
    said = words.certificate(row())
    assert said[0] == "Every part of the data was answered for by a shard that is trusted: nothing was lost."
    assert "95 % confidence" in said[1]
    assert not any("missing" in text for text in words.limits(row()))


@pytest.mark.parametrize(("changes", "inside"), [
    ({"coverage": 0.75, "stragglers": [1, 2]}, "75 % of the data was answered for; the rest is missing."),
    ({"coverage": 0.0, "cost": None}, "No shard that is trusted has answered: nothing is known."),
    ({"stragglers": [3]}, "1 shard has not answered; each row is held by 2 shards, so others did."),
    ({"stragglers": [3], "scheme": "bernoulli"},
     "1 shard has not answered; each row is held by 2 shards on average, so others did."),
    ({"cost": None}, "There is no cost, as there are no rows or no centers."),
    ({"cost_basis": "exact", "cost": 12.0}, "The centers cost exactly 12: the coreset holds every row."),
    ({"trust": "bound only", "cost_low": 1.0, "cost_high": 2.0},
     "The centers cost 1 to 2 on all of the data: a bound, not an estimate."),
    ({"trust": "weak: few points"}, "It may hold less often than it says (few points)."),
    ({"factor": 1.5}, "They cost at most 1.5 times the best centers."),
])  # fmt: skip
def test_what_holds_is_said(changes, inside):
    assert inside in words.certificate(row(**changes))


def test_what_is_missing_is_scaled_over_in_a_batch_and_left_out_in_a_stream():
    lost = {"coverage": 0.5}
    assert "What is missing is scaled over, as if it were like the rest." in words.limits(row(**lost, reason="batch"))
    assert "What is missing is left out." in words.limits(row(**lost, reason="deadline"))


def test_names_of_what_was_asked_are_there():
    said = dict(words.answer(row(constraint_text="balanced 0.1", outliers=4.0, stragglers=list(range(30)))))
    assert said["constraint"] == "balanced 0.1"
    assert said["left out"] == "4 of the weight (1 %)"
    assert said["answered"].endswith("19, ... (30)")


def test_one_of_something_is_one(tmp_path):
    write(tmp_path, answer(minute(0), 0, rows=1))
    said = contents_at(str(tmp_path))["alternatives"][0]
    assert said["points"].startswith("1 of 1 sampled row and 1 center.")
    assert said["cost"] == "The cost in 1 window: 0 to 0, last 0."
    assert said["shards"] == "One window, whole. All shards answered."
    assert dict(words.answer(row(coreset_points=1)))["coreset"] == "1 point"


def test_times_without_a_window_are_counted(tmp_path):
    write_minutes(tmp_path, (0, 2))
    said = contents_at(str(tmp_path))["alternatives"][0]["shards"]
    assert said.startswith("2 windows, 2 of them whole. All shards answered in all of them.")
    assert said.endswith(" 1 time between them without a window.")
