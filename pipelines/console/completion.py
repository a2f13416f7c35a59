"""Completion of words and options in shells, by shtab, from the same declarations as the parsers."""
import argparse
import importlib
import logging
from collections.abc import Mapping

import shtab

from beam_coresets.declared import add_parameters
from beam_coresets.pipelines.console.command_line import CONFIG

SHELLS = tuple(shtab.SUPPORTED_SHELLS)
KINDS = {
    "summarize": "console.options:SummarizeOptions",
    "stream": "console.stream_options:StreamOptions",
    "plan": "plan:PlanOptions",
    "rollup": "rollup:RollupOptions",
    "solve": "solve:SolveOptions",
    "compact": "compact:CompactOptions",
    "compare": "compare:CompareOptions",
    "assign": "assign:AssignOptions",
    "register": "register:RegisterOptions",
    "show": "views.show:ShowOptions",
    "report": "views.report:ReportOptions",
    "watch": "views.watch:WatchOptions",
    "verify": "verify:VerifyOptions",
}


def script(shell: str, words: Mapping[str, str]) -> str:
    """The script for one of `SHELLS`, of the words with what they do."""
    logging.basicConfig(level=logging.ERROR)  # Beam says what it has not found
    parser = argparse.ArgumentParser(prog="beam-coresets")
    parser.add_argument("--version", action="store_true", help="which this is")
    below = parser.add_subparsers()
    for word, what in words.items():
        module, _, name = KINDS[word].partition(":")
        kind = getattr(importlib.import_module(f"beam_coresets.pipelines.{module}"), name)
        command = below.add_parser(word, help=what)
        command.add_argument(CONFIG, metavar="FILE", help="YAML with options by name")
        add_parameters(command, kind)
    return str(shtab.complete(parser, shell=shell))
