"""From words and a --config file to a command's options, whatever they are."""
import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from beam_coresets.declared import add_parameters, of_values, parameters

CONFIG = "--config"
Options = TypeVar("Options")
EPILOG = "Other options go to Beam: --runner, --direct_num_workers, --flink_master, ..."


def parser_of(command: str, kind: type, description: str = "", epilog: str = EPILOG) -> argparse.ArgumentParser:
    """The parser of a command's own options: the parameters of `kind`, and --config."""
    parser = argparse.ArgumentParser(
        prog=f"beam-coresets {command}", description=description, epilog=epilog, allow_abbrev=False
    )
    parser.add_argument(CONFIG, metavar="FILE", help="YAML with options by name; what is given here is not in it")
    add_parameters(parser, kind)
    return parser


def parse_alone(
    argv: Sequence[str] | None, command: str, kind: Callable[..., Options], description: str = "", epilog: str = ""
) -> Options:
    """The options of a command that runs no pipeline, so that none are Beam's.

    Raises:
      ValueError: as `parse` does.
    """
    parser = parser_of(command, kind, description, epilog)  # type: ignore[arg-type]
    given, rest = given_by(parser, argv)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    file, _ = config_of(given.pop("config", None), kind, given, ())
    return kind(**{**file, **given})


def given_by(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
    """What the words of a command line give, by name, and the words that the parser does not know."""
    words = list(spelled_as_declared(parser, sys.argv[1:] if argv is None else argv))
    known, rest = parser.parse_known_args(words)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(known).items()}
    return {name: value for name, value in given.items() if name != "config" or value is not None}, rest


def spelled_as_declared(parser: argparse.ArgumentParser, argv: Sequence[str]) -> Iterator[str]:
    """The words of a command line, options of ours with dashes where they are written with underscores.

    Raises:
      ValueError: an option is given in both spellings.
    """
    written: dict[str, str] = {}
    for place, word in enumerate(argv):
        if word == "--":
            yield from argv[place:]
            return
        name, equals, value = word.partition("=")
        spelled = "--" + name[2:].replace("_", "-")
        if not name.startswith("--") or spelled not in parser._option_string_actions:
            yield word
            continue
        if written.setdefault(spelled, name) != name:
            raise ValueError(f"{spelled[2:].replace('-', '_')}: must be spelled one way, got {spelled} and its other")
        yield spelled + equals + value


def config_of(
    path: str | None, kind: Any, given: Mapping[str, Any], beams: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """What a --config file says of the command's options, and words for Beam's."""
    if path is None:
        return {}, []
    held = _yaml_of(path)
    names = {str(name).replace("-", "_") for name in held}
    twice = sorted(names & set(given))
    if twice:
        raise ValueError(f"{twice[0]}: must be given once, got it on the command line and in {path}")
    declared = parameters(kind)
    ours = {parameter.name for parameter in declared}
    words = [word for name, value in held.items() if name not in ours and f"--{name}" in beams
             for word in _words(str(name), value)]  # fmt: skip
    mine = {name: value for name, value in held.items() if name in ours or f"--{name}" not in beams}
    return of_values(declared, mine, f" in {path}"), words


def _yaml_of(path: str) -> Mapping[Any, Any]:
    from apache_beam.io.filesystems import FileSystems  # late: commands that read no such file start without Beam

    try:
        with FileSystems.open(path, compression_type="uncompressed") as file:
            held = yaml.safe_load(file.read())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"config: must be a YAML file, got {path!r} ({said})") from None
    if held is None:
        return {}
    if not isinstance(held, Mapping):
        raise ValueError(f"config: must hold options by name, got a {type(held).__name__} in {path!r}")
    return held


def _words(name: str, value: Any) -> list[str]:
    if value is False or value is None:
        return []
    return [f"--{name}"] if value is True else [f"--{name}={value}"]
