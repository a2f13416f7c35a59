"""The pages that people read, and what stands in them: commands, options, code, links."""
import argparse
import contextlib
import functools
import io
import pathlib
import re
import shlex

from apache_beam.options.pipeline_options import PipelineOptions

from beam_coresets.pipelines.main import WORDS, main

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS, *sorted((ROOT / "templates").glob("*/README.md"))]


def name_of(page):
    """Of a page, from the root."""
    return str(page.relative_to(ROOT))


def code_blocks(page):
    """The Python of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.S)


def spans(page):
    """What stands between backticks in the prose of a page."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.S))


def command_lines(page):
    """The lines and spans that call `beam-coresets`, split into words, without its name and "..."."""
    lines = re.findall(r"^    beam-coresets (.*)$", page.read_text(), re.M)
    lines += [span.removeprefix("beam-coresets ") for span in spans(page) if span.startswith("beam-coresets ")]
    lines = [line.split("  # ")[0] for line in lines if line.split()[0] in WORDS]
    return [[word for word in shlex.split(line) if word != "..."] for line in lines]


def steps(page):
    """What a reader of a page does, in its order: ("code", Python), or ("command", its words)."""
    for step in re.finditer(r"^```python\n(.*?)^```|^    beam-coresets ([^\n]*)$", page.read_text(), re.S | re.M):
        if step[1] is not None:
            yield "code", step[1]
        else:
            yield "command", shlex.split(step[2].split("  # ")[0])


def dashed(option):
    """As people type it."""
    return "--" + option.removeprefix("--").replace("_", "-")


@functools.cache
def beams_options():
    """Beam's own options, with underscores."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for group in PipelineOptions.__subclasses__():
        if group.__module__.startswith("apache_beam"):
            group._add_argparse_args(parser)
    return set(parser._option_string_actions)


def answer(*words):
    """The exit code of a command, and what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main([*words])
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue()


@functools.cache
def options_of(word):
    """The options of a command, with dashes, from what it says of itself."""
    code, text = answer(word, "--help")
    assert code == 0
    found = re.findall(r"(?:^ +(?:-\w, )?|\[)(--[a-z][\w-]*)|(--[a-z][\w-]*) [A-Z]+:", text, re.M)
    return {dashed(name or other) for name, other in found}


def own_options():
    """The options of all commands, with dashes."""
    return set().union(*map(options_of, WORDS))


def refused(words):
    """What a command says against its options, read by its own parser; "" if it takes them."""
    code, text = answer(*words, "--help")  # what stands before --help is read before it
    return "" if code == 0 else text
