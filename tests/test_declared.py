"""Parameters that are declared once: what a command line, a file and YAML make of them."""
import argparse
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_coresets.declared import (
    Seconds,
    add_parameters,
    check_values,
    declare,
    declared_as,
    described,
    of_values,
    parameters,
    part_of,
    shown_time,
)
from beam_coresets.parameters.plan import Plan, PlanParameters
from beam_coresets.parameters.stream_plan import StreamPlan
from beam_coresets.pipelines.console.options import SummarizeOptions
from beam_coresets.pipelines.console.stream_options import StreamOptions
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.times import length_of_time


def _even(text):
    if int(text) % 2:
        raise argparse.ArgumentTypeError(f"must be even, got {text}")
    return int(text)


@dataclasses.dataclass(frozen=True)
class Options:
    shards: int = declare(8, "that rows are assigned to", group="one")
    share: float | None = declare(None, "50 % of it", group="one")
    names: tuple[str, ...] = declare((), "some", group="two")
    wait: Seconds = declare(1.5, "so long")
    fast: bool = declare(False, "in a hurry")
    kind: str = declare("a", "of it", choices=("a", "b"))
    several: tuple[int, ...] = declare((), "even ones", several=True, read=_even)
    since: float | None = declare(None, "then", spelled="from")
    hidden: int = 3


def typed(*words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_parameters(parser, Options)
    return vars(parser.parse_args(words))


def test_only_what_is_given_is_there():
    assert typed() == {}
    assert typed("--shards", "3", "--names=x, y", "--wait=2m", "--fast", "--kind", "b") == {
        "shards": 3, "names": ("x", "y"), "wait": 120.0, "fast": True, "kind": "b",
    }  # fmt: skip
    assert typed("--several", "2", "4", "--from", "7") == {"several": [2, 4], "since": 7.0}


def test_defaults_and_both_spellings_for_a_parser_of_ones_own():
    parser = argparse.ArgumentParser()
    add_parameters(parser, PlanParameters, defaults=True)
    known = parser.parse_args(["--coreset_size", "9"])
    assert (known.coreset_size, known.shards, known.k) == (9, 8, None)
    assert parser.parse_args(["--coreset-size", "9"]).coreset_size == 9


@pytest.mark.parametrize(("words", "error"), [
    (["--shards", "x"], "must be a whole number, got 'x'"), (["--share", "x"], "must be a number, got 'x'"),
    (["--wait", "soon"], "must be a time such as 500ms, 5s or 2m, got 'soon'"),
    (["--kind", "c"], "must be one of a, b, got 'c'"),
    (["--several", "2", "3"], "must be even, got 3"), (["--hidden", "1"], "unrecognized arguments"),
])  # fmt: skip
def test_words_that_are_no_values(words, error, capsys):
    with pytest.raises(SystemExit):
        typed(*words)
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(("given_", "error"), [
    ({"shard": 3}, r"shard: must be one of the options in job.yaml \(.*\bshards\b.*\), got 3"),
    ({"shards": "3"}, "shards: must be a whole number, got '3'"), ({"shards": True}, "shards: must be a whole number"),
    ({"names": "x,y"}, "names: must be a list, got 'x,y'"), ({"kind": "c"}, "kind: must be one of a, b, got 'c'"),
    ({"kind": 1}, "kind: must be text, got 1"), ({"fast": "yes"}, "fast: must be true or false, got 'yes'"),
    ({"several": 3}, "several: must be a list, got 3"), ({"several": [3]}, "several: must be even, got 3"),
    ({"wait": [1]}, r"wait: must be a time such as 500ms, 5s or 2m, got \[1\]"), ({"hidden": 1}, "hidden: must be one"),
])  # fmt: skip
def test_values_that_are_none(given_, error):
    with pytest.raises(ValueError, match=error):
        of_values(parameters(Options), given_, " in job.yaml")


def test_values_of_yaml():
    given_ = {"shards": 3, "share": 1, "names": ["x"], "wait": "500ms", "fast": True, "several": [2, "4"]} | {
        "from": None
    }
    assert of_values(parameters(Options), given_) == {
        "shards": 3, "share": 1.0, "names": ("x",), "wait": 0.5, "fast": True, "several": (2, 4),
    }  # fmt: skip
    with pytest.raises(ValueError, match="coreset_size: must be given once, got it with dashes and with underscores"):
        of_values(parameters(PlanParameters), {"coreset-size": 1, "coreset_size": 2})


def test_help_says_defaults_once_and_docstrings_say_the_parameters():
    parser = argparse.ArgumentParser()
    add_parameters(parser, Options)
    shown = " ".join(parser.format_help().split())
    assert "that rows are assigned to (default: 8)" in shown
    assert "so long (default: 1500ms)" in shown
    assert "50 % of it" in shown

    @described
    @dataclasses.dataclass(frozen=True)
    class Documented(Options):
        """What it is.

    Attributes:
      more: of it.
        """

    assert "shards: that rows are assigned to." in Documented.__doc__
    assert Plan.__doc__.index("candidates: how many (default: 40 k).") < Plan.__doc__.index("constraint: what")


@given(st.sampled_from([0.001, 0.25, 1.0, 1.5, 60.0, 90.0, 86400.0, 2592000.0]))
def test_times_are_shown_as_they_are_read(length):
    assert length_of_time(shown_time(length)) == length


@pytest.mark.parametrize("kind", [SummarizeOptions, StreamOptions])
def test_a_parameter_of_the_plan_reaches_commands_as_it_was_declared(kind):
    """Name, type, choices and reading are the plan's; a command may say another default and help."""
    mine = {parameter.name: parameter for parameter in parameters(kind)}
    for declared in parameters(PlanParameters):
        here = mine[declared.name]
        assert (here.kind, here.choices, here.read, here.group) == (
            declared.kind, declared.choices, declared.read, here.group,
        )  # fmt: skip
        if declared.name not in ("max_bad_rows", "min_shards", "metric"):
            assert (here.default, here.help) == (declared.default, declared.help)


def test_a_plan_takes_what_was_declared_and_no_more():
    given_ = {"k": 5, "shards": 1, "input": ("x",), "colour": 1}
    plan = Plan(**part_of(Plan, given_))
    assert (plan.k, plan.replication) == (5, 1), "as many replicas as there are shards"
    field = declared_as(PlanParameters, "shards", 9, help="others")
    assert field.default == 9
    assert field.metadata["parameter"]["help"] == "others"


def test_a_range_is_said_where_the_parameter_is():
    @dataclasses.dataclass
    class Ranged:
        share: float | None = declare(None, "of it", least=0.5)

    for value in (None, 0.5, 3):
        check_values(Ranged(value), Ranged)
    for value in (0.4, float("nan")):
        with pytest.raises(ValueError, match=f"share: must be .*, got {value}"):
            check_values(Ranged(value), Ranged)
    with pytest.raises(ValueError, match="max_bad_rows: must be at least 0, got -1"):
        Plan(k=2, max_bad_rows=-1)


@pytest.mark.parametrize(("given", "error", "said"), [
    ({"k": 3.5}, TypeError, "k: must be a whole number, got 3.5"),
    ({"k": "3"}, TypeError, "k: must be a whole number, got '3'"),
    ({"k": True}, TypeError, "k: must be a whole number, got True"),
    ({"k": 0}, ValueError, "k: must be at least 1, got 0"),
    ({"k": 2**63}, ValueError, "k: must be a whole number of 64 bits"),
    ({"k": 3, "z": "2"}, TypeError, "z: must be a number, got '2'"),
    ({"k": 3, "weak": 1}, TypeError, "weak: must be true or false, got 1"),
    ({"k": 3, "scheme": "best"}, ValueError, "scheme: must be one of"),
    ({"k": 3, "drop_shards": 1}, TypeError, "drop_shards: must be a tuple, got 1"),
    ({"k": 3, "drop_shards": (1.5,)}, TypeError, "drop_shards: must be a whole number, got 1.5"),
])  # fmt: skip
def test_a_plan_in_python_is_held_to_the_declaration(given, error, said):
    with pytest.raises(error, match=said):
        Plan(**given)


@pytest.mark.parametrize(("given", "said"), [
    ({"groups": 0}, "groups: must be at least 1, got 0"), ({"poll": -1}, "poll: must be at least 0, got -1"),
    ({"disorder": -0.5}, "disorder: must be at least 0, got -0.5"),
    ({"idle": "1s"}, "idle: must be a number, got '1s'"),
    ({"parallelism": 2.0}, "parallelism: must be a whole number, got 2.0"),
])  # fmt: skip
def test_a_stream_plan_in_python_is_held_to_the_declaration(given, said):
    with pytest.raises((TypeError, ValueError), match=said):
        StreamPlan(Plan(k=2), WindowSpec.parse("5s"), **given)


def test_numbers_of_numpy_are_numbers():
    assert Plan(k=np.int64(3), z=np.float32(2), coreset_size=np.int32(80)).k == 3
