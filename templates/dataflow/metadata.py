"""Writes the templates' metadata from the declared options of the commands: `python templates/dataflow/metadata.py`."""
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from beam_coresets.declared import Parameter, help_of, parameters
from beam_coresets.pipelines.console.flex_template import COMMANDS

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
_NOWHERE = ("help", "config", "explain", "json", "quiet", "verbose", "detach")
# Of the stream: what follows a job from a terminal, Flink's checkpoints, and what a stream refuses.
_NO_STREAM = (
    "max_windows", "duration", "checkpoint_dir", "resume_from", "overwrite", "max_bad_rows", "buckets", "drop_shards",
    "scale", "summary", "r", "affine", "delta", "epsilon", "leftover",
)  # fmt: skip
LEFT_OUT = {"stream": (*_NOWHERE, *_NO_STREAM), "summarize": _NOWHERE}

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
        "parameters": [*_of_the_template(command), *(_parameter(each, command) for each in parameters_of(command))],
    }


def parameters_of(command: str) -> Iterator[Parameter]:
    """The options that are parameters."""
    return (each for each in parameters(COMMANDS[command]) if each.name not in LEFT_OUT[command])


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


def _parameter(declared: Parameter, command: str) -> dict[str, Any]:
    several = " (several: separated by spaces)" if declared.several else ""
    found: dict[str, Any] = {
        "name": declared.name,
        "label": f"{declared.name.replace('_', ' ').capitalize()}{several}",
        "helpText": help_of(declared),
        "isOptional": declared.name not in REQUIRED[command],
        "regexes": [declared.regex],
        "paramType": "TEXT",
    }
    if declared.flag:
        found["paramType"] = "BOOLEAN"
    elif declared.choices:
        found |= {"paramType": "ENUM", "enumOptions": [{"value": value, "label": value} for value in declared.choices]}
    elif declared.name in _KINDS_BY_NAME:
        found["paramType"] = _KINDS_BY_NAME[declared.name]
    elif declared.read is None and declared.kind in _KINDS:
        found["paramType"] = _KINDS[declared.kind]
    return found


def text_of(command: str) -> str:
    """The file's content."""
    return json.dumps(metadata_of(command), indent=2) + "\n"


if __name__ == "__main__":
    for word in DESCRIPTIONS:
        pathlib.Path(__file__).with_name(f"{word}-metadata.json").write_text(text_of(word))
