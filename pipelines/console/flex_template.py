"""What a Dataflow Flex Template launches: one of two words, told by parameters alone, each `--name=value`."""
import argparse
import importlib
import shlex
from collections.abc import Iterator, Sequence

from beam_coresets.pipelines.console import command_line
from beam_coresets.pipelines.console.options import SummarizeOptions
from beam_coresets.pipelines.console.stream_options import StreamOptions
from beam_coresets.pipelines.running import ending, launch

COMMANDS: dict[str, type] = {"stream": StreamOptions, "summarize": SummarizeOptions}


def main(argv: Sequence[str] | None = None) -> int:
    """Submits the job that the parameters describe, and returns the exit code without waiting for it."""
    parser = argparse.ArgumentParser(prog="flex_template", description=__doc__, allow_abbrev=False)
    parser.add_argument("--command", choices=tuple(COMMANDS), required=True)
    known, rest = parser.parse_known_args(argv)
    return launch.exit_code(lambda: _launch(known.command, rest))


def _launch(command: str, parameters: Sequence[str]) -> int:
    words = list(words_of(parser_of(command), without_setup(parameters)))
    module = importlib.import_module(f"beam_coresets.pipelines.{command}")
    code: int = module.main([*words, "--detach"])
    return code


def parser_of(command: str) -> argparse.ArgumentParser:
    """The command's own parser."""
    return command_line.parser_of(command, COMMANDS[command])


def words_of(parser: argparse.ArgumentParser, parameters: Sequence[str]) -> Iterator[str]:
    """The words of a command line that mean what the parameters say.

    A flag is "true" or "false"; several values are separated by spaces, as on a command line, and quoted if they have
    spaces themselves. A parameter that is left empty is not given. What the parser does not know is Beam's.

    Raises:
      ValueError: a flag that is neither true nor false, or a quote that is not closed.
    """
    spelled = {f"--{action.dest}": action for action in parser._actions}  # parameters have the names of fields
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        action = parser._option_string_actions.get(name.replace("_", "-"), spelled.get(name))
        if action is None or not equals:
            yield parameter
        elif not value:
            continue
        elif action.nargs == 0:
            if value.lower() not in ("true", "false"):
                raise ValueError(f"{action.dest}: must be true or false, got {value!r}")
            if value.lower() == "true":
                yield action.option_strings[0]
        elif action.nargs == "+":
            yield from (action.option_strings[0], *_values(action.dest, value))
        else:
            yield f"{action.option_strings[0]}={value}"


def _values(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise ValueError(f"{name}: must have all quotes closed, got {text!r}") from None


def without_setup(parameters: Sequence[str]) -> list[str]:
    """Without --setup_file if workers start from an image of their own: it has the package, and installing that again
    would throw the image's compiled kernels away."""
    if not any(word.startswith("--sdk_container_image=") for word in parameters):
        return list(parameters)
    return [word for word in parameters if not word.startswith("--setup_file=")]


if __name__ == "__main__":
    ending.run_and_leave(main)
