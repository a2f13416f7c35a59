"""From words and a --config file to a command's options, whatever they are."""
import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import yaml

from beam_coresets.declared import add_parameters, of_values, parameters

CONFIG = "--config"
Options = TypeVar("Options")
EPILOG = "Other options go to Beam: --runner, --direct_num_workers, --flink_master, ..."


_OF_ARGPARSE = (
    (r"argument (?P<name>\S+): expected one argument", "must have one value, got none"),
    (r"argument (?P<name>\S+): expected at least one argument", "must have at least one value, got none"),
    (r"argument (?P<name>\S+): ignored explicit argument (?P<got>.*)", "must be without a value, got {got}"),
    (r"unrecognized arguments: (?P<name>[^\s=]+).*", "must be an option, got none of that name"),
    (r"argument (?P<name>[^\s/:]+).*?: invalid choice: (?P<got>.*) \(choose from (?P<of>.*)\)",
     "must be one of {of}, got {got}"),
    (r"argument (?P<name>[^\s/:]+).*?: invalid (?P<kind>\S+) value: (?P<got>.*)", "must be of type {kind}, got {got}"),
    (r"argument (?P<name>[^\s/:]+).*?: (?P<said>.*)", "{said}"),
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a line, `name: requirement, got value`, as all others are."""

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong, without the usage of all options, and ends the process with code 2."""
        for pattern, requirement in _OF_ARGPARSE:
            found = re.fullmatch(pattern, message, re.S)
            if found is not None:
                parts = found.groupdict()
                name = parts["name"] if "unrecognized" in message else parts["name"].strip("-").replace("-", "_")
                message = f"{name}: {requirement.format(**parts)}"
                break
        self.exit(2, f"error: {message}\n")


def parser_of(command: str, kind: type, description: str = "", epilog: str = EPILOG) -> argparse.ArgumentParser:
    """The parser of a command's own options: the parameters of `kind`, and --config."""
    parser = Parser(
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
        name = rest[0].partition("=")[0]
        close = difflib.get_close_matches(name, parser._option_string_actions, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        parser.error(f"{name}: must be an option of {command}, got none of that name{hint}")
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
      ValueError: an option is given in both spellings, or twice where it takes one value.
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
        before, takes_one = written.get(spelled), parser._option_string_actions[spelled].nargs is None
        if before is not None and before != name:
            raise ValueError(f"{spelled[2:].replace('-', '_')}: must be spelled one way, got {spelled} and its other")
        if before is not None and takes_one:
            raise ValueError(f"{spelled[2:].replace('-', '_')}: must be given once, got it twice")
        written[spelled] = name
        yield spelled + equals + value


def config_of(
    path: str | None, kind: Any, given: Mapping[str, Any], beams: Sequence[str], rest: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """What a --config file says of the command's options, and words for Beam's.

    Args:
      given: what the command line gives of the command's own options.
      beams: the options that Beam knows. rest: the words that the command line has for Beam.
    """
    if path is None:
        return {}, []
    held = {name: value for name, value in _yaml_of(path).items() if value is not None}
    declared = parameters(kind)
    ours = {parameter.spelled or parameter.name: parameter.name for parameter in declared}
    spelled = {name: str(name).replace("-", "_") for name in held}
    of_beam = {name for name, key in spelled.items() if key not in ours and f"--{key}" in beams}
    on_line = {*given, *(word.partition("=")[0][2:] for word in rest if word.startswith("--"))}
    for key in spelled.values():
        if ours.get(key, key) in on_line:
            raise ValueError(f"{key}: must be given once, got it on the command line and in {path}")
    words = [word for name in held if name in of_beam for word in _words(spelled[name], held[name])]
    mine = {name: value for name, value in held.items() if name not in of_beam}
    return of_values(declared, mine, f" in {path}"), words


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 2:4 and 2026-11-21 are texts, 1e3 is a number, and no key stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [each for each in resolvers if each[0].rpartition(":")[2] not in ("int", "float", "timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The keys and values of a mapping. Raises ValueError for a key that stands twice."""
        names = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name}: must be given once, got it twice in a file")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?[.](inf|nan)$"), list("-+.0123456789"),
)  # fmt: skip


def _yaml_of(path: str) -> Mapping[Any, Any]:
    from apache_beam.io.filesystems import FileSystems  # late: commands that read no such file start without Beam

    try:
        with FileSystems.open(path, compression_type="uncompressed") as file:
            held = yaml.load(file.read(), _Loader)
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
