"""The Flex Templates: their metadata is what the commands' parsers say, and parameters arrive as options."""
import argparse
import ast
import importlib
import importlib.util
import json
import pathlib
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_coresets.declared import Seconds, parameters, shown_time
from beam_coresets.pipelines.console import flex_template, stream_options
from beam_coresets.pipelines.console.flex_template import COMMANDS, parser_of, without_setup, words_of
from beam_coresets.pipelines.results_folder import scale_file

FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "dataflow"
_spec = importlib.util.spec_from_file_location("dataflow_metadata", FOLDER / "metadata.py")
metadata = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(metadata)

FILES = {command: json.loads((FOLDER / f"{command}-metadata.json").read_text()) for command in COMMANDS}
OF_THE_TEMPLATE = ("command", "sdk_container_image")
# An expression can't say that the low share is not above the high one, or that a label has no group twice.
ORDERED = ("fair", "label_groups")
VALUES = {
    "input": "a/*.parquet b/*.parquet", "columns": "lat,lon", "z": "1", "domains": "0,0,1,1", "drop_shards": "1,4",
    "window": "60s/5s", "half_life": "1h", "max_ahead": "2m", "hold_shards": "2:10s:20s 3:500ms:1m",
    "start": "gs://bucket/offsets.json", "pubsub_subscription": "projects/p/subscriptions/s", "balanced": "0.2",
    "min_size": "100", "max_size": "100,200,300", "fair": "women=0.4:0.6 men=.3:", "gamma": "1e3,2000.5",
    "label_groups": "young_women=young,women old_men=old,men", "message_format": "avro-registry", "deadline": "500ms",
    "epsilon": "0.1",
}  # fmt: skip


class _Made(BaseException):
    """Ends a command once its parser is there; no error that commands know."""


def real_parser(command):
    """The parser that the command itself makes."""
    made = []

    def catch(self, *args, **kwargs):
        made.append(self)
        raise _Made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", catch)
        with pytest.raises(_Made):
            importlib.import_module(f"beam_coresets.pipelines.{command}").main([])
    return made[0]


REAL = {command: real_parser(command) for command in COMMANDS}
PARAMETERS = {command: {each.name: each for each in parameters(kind)} for command, kind in COMMANDS.items()}
ACTIONS = [(c, a) for c in COMMANDS for a in REAL[c]._actions if a.dest not in metadata.LEFT_OUT[c]]
both = pytest.mark.parametrize("command", COMMANDS)
each = pytest.mark.parametrize(("command", "action"), ACTIONS, ids=lambda value: getattr(value, "dest", value))


def parameter(command, name):
    (found,) = (one for one in FILES[command]["parameters"] if one["name"] == name)
    return found


def accepts(command, name, text):
    return all(re.search(regex, text) for regex in parameter(command, name)["regexes"])


def parsed(command, *parameters):
    known, rest = REAL[command].parse_known_args(list(words_of(REAL[command], parameters)))
    assert not rest
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(known).items()}
    return COMMANDS[command](**{name: value for name, value in given.items() if name != "config"})


@both
def test_the_files_are_what_the_parsers_say(command):
    assert (FOLDER / f"{command}-metadata.json").read_text() == metadata.text_of(command), "run metadata.py"


@both
def test_every_option_is_a_parameter_and_every_parameter_an_option(command):
    named = [one["name"] for one in FILES[command]["parameters"]]
    assert len(set(named)) == len(named)
    assert set(named) - set(OF_THE_TEMPLATE) == {a.dest for c, a in ACTIONS if c == command}
    assert {a.dest for a in REAL[command]._actions} <= {*named, *metadata.LEFT_OUT[command]}
    assert FILES[command]["streaming"] == (command == "stream")


@each
def test_a_parameter_says_what_its_option_says(command, action):
    one = parameter(command, action.dest)
    assert one["helpText"] == action.help.replace("%%", "%")
    assert one["helpText"]
    assert [option["value"] for option in one.get("enumOptions", [])] == list(action.choices or [])
    assert (one["paramType"] == "BOOLEAN") == (action.nargs == 0)
    assert all(regex[0] == "^" and regex[-1] == "$" and "\\d" not in regex for regex in one["regexes"])


@each
def test_defaults_and_documented_examples_pass(command, action):
    examples = re.findall(r"e\.g\. ([^\s;]+)", action.help)
    examples += [VALUES[action.dest]] if action.dest in VALUES else []
    if action.dest == "window":
        examples += re.findall(r"\S*\d+s", action.help)
    declared = PARAMETERS[command][action.dest]
    if declared.flag:
        examples += ["true", "false"]
    elif declared.default not in (None, (), ""):
        examples.append(shown_time(declared.default) if declared.kind is Seconds else str(declared.default))
    for text in examples:
        assert accepts(command, action.dest, text), text
        parsed(command, f"--{action.dest}={text}")


@each
@settings(max_examples=40)
@given(data=st.data())
def test_what_a_parameter_accepts_its_option_accepts(command, action, data):
    (regex,) = parameter(command, action.dest)["regexes"]
    if regex == "^.+$" or action.dest in ORDERED:
        return
    text = data.draw(st.from_regex(regex[1:-1], fullmatch=True, alphabet=st.characters(codec="ascii")))
    parsed(command, f"--{action.dest}={text}")


@pytest.mark.parametrize(("command", "name", "texts"), [
    ("stream", "deadline", ["5x", "s", "1.2.3s", "5s ", "-1s"]), ("stream", "window", ["5s/", "global", "a"]),
    ("stream", "k", ["many", "1.5", ""]), ("stream", "z", ["two", "1,5"]), ("stream", "scheme", ["Cyclic", "cyclics"]),
    ("stream", "revise", ["yes", "1", ""]), ("stream", "domains", ["1;2", "a", "1,,2"]),
    ("stream", "hold_shards", ["2:10s", "2:10s:20s,3:1s:1s"]), ("summarize", "fair", ["women", "women=half:1"]),
    ("summarize", "label_groups", ["women", "=a"]), ("summarize", "gamma", ["a", "1,"]),
    ("stream", "command", ["summarize"]), ("summarize", "command", ["stream"]),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_launched(command, name, texts):
    for text in texts:
        assert not accepts(command, name, text), text


@both
def test_what_must_be_given_is_required(command):
    required = {one["name"] for one in FILES[command]["parameters"] if not one["isOptional"]}
    assert required == {"command", *metadata.REQUIRED[command]}


REFUSED = {
    "overwrite": "true", "max_bad_rows": "3", "buckets": "64", "drop_shards": "1", "scale": "standard",
    "summary": "local_centers", "r": "1", "epsilon": "0.1", "leftover": "centers", "explain": "true",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_a_stream_refuses_what_is_left_out(name, value):
    more = {"summary": ["--z=1"], "leftover": ["--method=rings_and_groups", "--recovery=lp"]}.get(name, [])
    known = parsed("stream", "--k=3", f"--{name}={value}", *more)
    with pytest.raises(ValueError, match=f"^({name}|recovery): must"):
        _checked(known)


def _checked(known):
    """What `stream` does with its options before it builds anything."""
    stream_options.refuse_unused(known)
    scale_file.scale_of(known.scale, known.scale_file)
    return stream_options.stream_of(known, 8, 128)


def test_flags_and_lists_arrive():
    known = parsed(
        "summarize", "--input=a/*.parquet 'b c/*.parquet'", "--audit=true", "--weak=false", "--affine=True", "--k=3",
        "--columns=lat,lon", "--fair=women=0.4:0.6 men=0.3:", "--id_column=",
    )  # fmt: skip
    assert known.input == ("a/*.parquet", "b c/*.parquet")
    assert (known.audit, known.weak, known.affine, known.k) == (True, False, True, 3)
    assert known.columns == ("lat", "lon")
    assert [fair.group for fair in known.fair] == ["women", "men"]
    assert known.id_column is None


def test_beams_options_pass_as_they_are():
    beams = ["--runner=DataflowRunner", "--experiments=a", "--no_use_public_ips"]
    assert list(words_of(REAL["stream"], beams)) == beams


@pytest.mark.parametrize(("parameter", "error"), [
    ("--audit=yes", "audit: must be true or false, got 'yes'"),
    ("--input='a", "input: must have all quotes closed, got \"'a\""),
])  # fmt: skip
def test_parameters_that_cannot_be_read(parameter, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        list(words_of(parser_of("summarize"), [parameter]))


def test_workers_that_start_from_the_image_install_nothing():
    setup, image = "--setup_file=/template/source/setup.py", "--sdk_container_image=i"
    assert without_setup([setup, "--k=3"]) == [setup, "--k=3"]
    assert without_setup([setup, image]) == [image]


@both
def test_the_command_is_launched_and_not_followed(command, monkeypatch):
    launched = []
    module = importlib.import_module(f"beam_coresets.pipelines.{command}")
    monkeypatch.setattr(module, "main", lambda argv: launched.append(argv) or 0)
    code = flex_template.main([f"--command={command}", "--k=3", "--audit=true", "--runner=DataflowRunner"])
    assert (code, launched) == (0, [["--k=3", "--audit", "--runner=DataflowRunner", "--detach"]])


def test_a_wrong_parameter_is_one_line(capsys):
    assert flex_template.main(["--command=stream", "--k=3", "--audit=maybe"]) == 2
    assert capsys.readouterr().err == "error: audit: must be true or false, got 'maybe'\n"


def test_main_imports_and_calls_and_defines_nothing():
    body = ast.parse((FOLDER / "main.py").read_text()).body
    assert all(isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) for node in body)


@both
def test_the_readmes_launch_commands_are_accepted(command):
    readme = (FOLDER / "README.md").read_text()
    (text,) = re.findall(rf"--parameters='\^;\^(command={command};[^']*)'", readme)
    given = [item.split("=", 1) for item in text.split(";")]
    for name, value in given:
        assert accepts(command, name, value), name
    required = {one["name"] for one in FILES[command]["parameters"] if not one["isOptional"]}
    assert required <= {name for name, _ in given}
    own = [f"--{name}={value}" for name, value in given if name not in OF_THE_TEMPLATE]
    assert parsed(command, *own).k == 20


def test_the_image_has_what_the_launcher_and_the_harness_look_for():
    docker = (FOLDER / "Dockerfile").read_text()
    for needed in (
        "FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py", "FLEX_TEMPLATE_PYTHON_SETUP_FILE=/template/source/setup.py",
        "/opt/google/dataflow/python_template_launcher", 'ENTRYPOINT ["/opt/apache/beam/boot"]',
    ):  # fmt: skip
        assert needed in docker
    kept = re.findall(r"^!(.+)$", (FOLDER / "Dockerfile.dockerignore").read_text(), re.M)
    assert all((FOLDER.parents[1] / path).exists() for path in kept)
    for line in re.findall(r"beam-coresets summarize ([^&]*?) \\", docker):
        assert not REAL["summarize"].parse_known_args(shlex.split(line))[1]
