"""Writes the templates' metadata from the parsers of the commands: `python templates/dataflow/metadata.py`."""
import argparse
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from beam_coresets.pipelines.console import constraint_options, options, stream_options
from beam_coresets.pipelines.flex_template import parser_of

DESCRIPTIONS = {
    "stream": (
        "Coresets of a stream",
        "A coreset, k centers and a certificate for every window of a stream, on time, whichever shards answer.",
    ),
    "summarize": (
        "Coreset of files",
        "A small weighted coreset that stands for all points in the files, k centers, and a certificate.",
    ),
}
REQUIRED = {"stream": ("k", "output"), "summarize": ("input", "output")}

# What is no parameter. Of both: what is for a terminal, and --detach, which a template always gives.
_NOWHERE = ("help", "explain", "verbose", "detach")
# Of the stream: what follows a job from a terminal, Flink's checkpoints, and what a stream refuses.
_NO_STREAM = (
    "max_windows", "duration", "checkpoint_dir", "resume_from", "overwrite", "max_bad_rows", "buckets", "drop_shards",
    "scale", "summary", "r", "affine", "delta", "epsilon", "leftover",
)  # fmt: skip
LEFT_OUT = {"stream": (*_NOWHERE, *_NO_STREAM), "summarize": _NOWHERE}

# Dataflow reads them as POSIX extended expressions.
_INT = "-?[0-9]+"
_NUMBER = "-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?"
_TIME = "[0-9]+([.][0-9]+)?(ms|s|m|h|d)?"
_SHARES = "[01]?([.][0-9]+)?(,[01]?([.][0-9]+)?)*"
_NAME = "[^ \"'\\\\=,]+"
_VALUES = {
    None: ".+",
    int: _INT,
    float: _NUMBER,
    options.length_of_time: _TIME,
    options._names: "[^,]+(,[^,]+)*",
    options._numbers: "[0-9]+(,[0-9]+)*",
    stream_options._hold: f"[0-9]+:{_TIME}:{_TIME}",
    constraint_options._numbers: f"{_NUMBER}(,{_NUMBER})*",
    constraint_options._gamma: f"{_NUMBER}(,{_NUMBER})*",
    constraint_options._fair: f"{_NAME}={_SHARES}:{_SHARES}",
    constraint_options._label: f"{_NAME}={_NAME}(,{_NAME})*",
}
_BY_NAME = {
    "window": f"{_TIME}|{_TIME}/{_TIME}|global/{_TIME}",
    "pubsub_subscription": "projects/[^/]+/subscriptions/[^/]+",
}
_KINDS = {int: "NUMBER", float: "NUMBER"}
_KINDS_BY_NAME = {"pubsub_subscription": "PUBSUB_SUBSCRIPTION"}


def metadata_of(command: str) -> dict[str, Any]:
    """The metadata of one template."""
    name, description = DESCRIPTIONS[command]
    return {
        "name": name,
        "description": description,
        "streaming": command == "stream",
        "supportsAtLeastOnce": False,
        "supportsExactlyOnce": True,
        "parameters": [*_of_the_template(command), *(_parameter(action, command) for action in parameters_of(command))],
    }


def parameters_of(command: str) -> Iterator[argparse.Action]:
    """The options that are parameters."""
    return (action for action in parser_of(command)._actions if action.dest not in LEFT_OUT[command])


def _of_the_template(command: str) -> Iterator[dict[str, Any]]:
    yield {
        "name": "command",
        "label": "Command",
        "helpText": f"What the image is to launch; always {command} here.",
        "isOptional": False,
        "regexes": [f"^{command}$"],
        "paramType": "TEXT",
        "defaultValue": command,
    }
    yield {
        "name": "sdk_container_image",
        "label": "Image of the workers",
        "helpText": "The template's own image. Without it workers start from Beam's and install the package first.",
        "isOptional": True,
        "regexes": ["^[^ ]+$"],
        "paramType": "TEXT",
    }


def _parameter(action: argparse.Action, command: str) -> dict[str, Any]:
    several = " (several: separated by spaces)" if action.nargs == "+" else ""
    found: dict[str, Any] = {
        "name": action.dest,
        "label": f"{action.dest.replace('_', ' ').capitalize()}{several}",
        "helpText": action.help,
        "isOptional": action.dest not in REQUIRED[command],
        "regexes": [_regex(action)],
        "paramType": "TEXT",
    }
    if action.nargs == 0:
        found["paramType"] = "BOOLEAN"
    elif action.choices:
        found |= {"paramType": "ENUM", "enumOptions": [{"value": value, "label": value} for value in action.choices]}
    elif action.dest in _KINDS_BY_NAME:
        found["paramType"] = _KINDS_BY_NAME[action.dest]
    elif action.type in _KINDS:
        found["paramType"] = _KINDS[action.type]
    return found


def _regex(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "^(true|false)$"
    if action.choices:
        return f"^({'|'.join(map(re.escape, action.choices))})$"
    value = _BY_NAME.get(action.dest) or _VALUES[action.type]
    if action.nargs == "+" and action.type is not None:
        return f"^{value}( {value})*$"
    return f"^({value})$" if "|" in value else f"^{value}$"


def text_of(command: str) -> str:
    """The file's content."""
    return json.dumps(metadata_of(command), indent=2) + "\n"


if __name__ == "__main__":
    for word in DESCRIPTIONS:
        pathlib.Path(__file__).with_name(f"{word}-metadata.json").write_text(text_of(word))
