"""What README, docs and CONTRIBUTING show has to run, and what they say of the code has to be true."""
import ast
import importlib
import re
import subprocess
import sys

import house
import pytest
from documents import (
    DOCS,
    PAGES,
    README,
    ROOT,
    beams_options,
    code_blocks,
    command_lines,
    dashed,
    name_of,
    options_of,
    own_options,
    refused,
    spans,
)

import beam_coresets
from beam_coresets import table_schemas, transforms
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running.local import IN_PROCESS
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.coordinator.coordinate_stream import LateReport
from beam_coresets.transforms.writing.stored_tables import read_table

ALGORITHMS, OUTPUT, STREAMING = (ROOT / "docs" / f"{name}.md" for name in ("algorithms", "output", "streaming"))
OTHERS = {"--service_port", "--version"}  # of Beam's worker pool, and of no command
PROSE = [page for page in PAGES if page.parent.parent.name != "templates"]  # in templates: options of gcloud, docker
STREAMS_ONLY = "# needs a runner that streams\n"
RUN_HERE = [code for code in code_blocks(ROOT / "docs/pipelines.md")
            if not code.startswith(STREAMS_ONLY) and code not in code_blocks(README)]  # fmt: skip

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
every_prose = pytest.mark.parametrize("page", PROSE, ids=name_of)
every_doc = pytest.mark.parametrize("page", DOCS, ids=name_of)


# Commands


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A folder in which the Python of the page has run."""
    folder = tmp_path_factory.mktemp("town")
    (code,) = code_blocks(ALGORITHMS)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        exec(compile(code, "algorithms.md", "exec"), {})
    return folder


@pytest.mark.slow
def test_every_command_runs_as_printed_one_after_the_other(town, monkeypatch):
    monkeypatch.chdir(town)
    for words in command_lines(ALGORITHMS):
        assert main(words) == 0, words
    constraints = {
        name: read_table(name, "summaries").to_pylist()[0]["constraint_text"]
        for name in ("gather", "capacity", "balanced", "fair", "diverse", "sizes", "mixed")
    }
    assert len(set(constraints.values())) == 7
    assert None not in constraints.values()
    smallest = min(row["weight"] for row in read_table("gather", "centers").to_pylist())
    assert smallest >= 1500 * (1 - 1e-6)
    sizes = [row["weight"] for row in read_table("sizes", "centers").to_pylist()]
    assert sizes == pytest.approx([3000, 2500, 2000, 1500, 1000])


@every_page
def test_commands_are_accepted_by_their_own_parsers(page):
    for words in command_lines(page):
        for option in (word.split("=")[0] for word in words if word.startswith("--")):
            assert option in options_of(words[0]) or option in beams_options(), (words[0], option)
        assert refused(words) == ""


def test_commands_are_found():
    assert len(command_lines(README)) >= 8
    assert len(command_lines(STREAMING)) >= 3
    assert len(command_lines(ALGORITHMS)) >= 13


def test_a_wrong_value_or_option_is_found():
    assert "k:" in refused(["summarize", "--k", "many"])
    assert "scheme:" in refused(["summarize", "--coreset-size", "40", "--scheme", "square"])
    assert "--bucket-size" not in options_of("summarize")


@every_prose
def test_options_in_prose_exist(page):
    named = {found for span in spans(page) for found in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)
             if not span.startswith(("python ", "mvn "))}  # fmt: skip
    assert named <= own_options() | beams_options() | OTHERS


@every_page
def test_our_options_are_spelled_with_dashes(page):
    lines = [line for line in page.read_text().splitlines() if "benchmarks/" not in line]
    underscored = {option for line in lines for option in re.findall(r"--[a-z]+_\w+", line)}
    assert {option for option in underscored if dashed(option) in own_options()} == set()


@every_page
def test_targets_of_make_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {span.split()[1] for span in spans(page) if re.match(r"make [a-z]", span)}
    assert named <= targets


@every_page
def test_commands_of_benchmarks_have_their_options(page):
    for line in re.findall(r"python benchmarks/([^`\n]*)", page.read_text()):
        name, *words = line.split("  #")[0].split()
        if name == "NAME.py":
            continue
        nodes = ast.walk(ast.parse((ROOT / "benchmarks" / name).read_text()))
        known = {node.value for node in nodes if isinstance(node, ast.Constant)}
        wanted = [word for word in words if word.startswith("--")]
        wanted += [word for word in words[:1] if word.isalpha()]
        assert set(wanted) <= known, line


# Code


@every_page
def test_code_imports_what_there_is(page):
    for code in code_blocks(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.slow
@pytest.mark.parametrize("code", RUN_HERE, ids=range(len(RUN_HERE)))
def test_code_of_pipelines_runs_as_printed(code, tmp_path):
    code = code.replace("beam.Pipeline()", f"beam.Pipeline({IN_PROCESS!r})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_code_of_reading_runs_as_printed_one_after_the_other(tmp_path):
    code = "\n".join(code_blocks(ROOT / "docs/reading.md")).replace("beam.Pipeline()", f"beam.Pipeline({IN_PROCESS!r})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "points=5,000 centers=5 coverage=1" in done.stdout


# What is said of the code


def headings(page):
    """The anchors of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = [title.lower() for title in re.findall(r"^#+ (.*)$", text, re.M)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    links = [link for link in re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@every_page
def test_paths_and_modules_exist(page):
    for span in spans(page):
        if re.fullmatch(r"(beam_coresets|transforms|pipelines|benchmarks|tests|templates|docs)(/[\w.-]+)+", span):
            assert (ROOT / span).exists() or (ROOT / f"{span}.py").exists(), span
        if re.fullmatch(r"beam_coresets(\.\w+)+", span):
            assert resolves(span), span


def resolves(dotted):
    """Whether a module or something in it has this name."""
    try:
        importlib.import_module(dotted)
    except ImportError:
        module, _, name = dotted.rpartition(".")
        return hasattr(importlib.import_module(module), name)
    return True


def test_the_table_of_algorithms_names_modules_and_tests_that_exist():
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in ALGORITHMS.read_text().splitlines()
            if line.startswith(("| R", "| O", "| U"))]  # fmt: skip
    assert len(rows) == 12
    for row in rows:
        modules, tests = row[-2], row[-1]
        for name in re.findall(r"`([\w/]+)`", modules):
            assert (ROOT / "beam_coresets" / f"{name}.py").exists(), name
        for name in re.findall(r"`([\w/]+)`", tests):
            assert (ROOT / "tests" / f"{name}.py").exists(), name


def test_every_column_is_explained():
    named = {name for span in spans(OUTPUT) for name in re.split(r"\W+", span)}
    for schema in table_schemas.SCHEMAS.values():
        assert set(schema.names) <= named
    assert {*LateReport._fields, *DeadLetter._fields} <= named


def test_every_name_that_is_exported_is_in_the_table():
    table = [line for line in (ROOT / "docs/pipelines.md").read_text().splitlines() if line.startswith("| ")]
    named = {name for line in table for name in re.findall(r"`(\w+)`", line.split(" | ")[-1])}
    exported = {name for package in (beam_coresets, transforms) for name in package.__all__}
    assert exported <= named


def test_the_versions_that_were_run_are_the_poms():
    pom = (ROOT / "templates/flink/job-server/pom.xml").read_text()
    beam, flink = (re.search(rf"<{name}.version>(.*)</{name}.version>", pom)[1] for name in ("beam", "flink"))
    assert pom.count("${beam.version}") == pom.count("${flink.version}") == 1
    assert f"Flink {flink}, job server of Beam {beam}" in STREAMING.read_text()
    assert f"-Dbeam.version={beam} -Dflink.version={flink}" in STREAMING.read_text()


def test_the_table_of_arrows_is_the_houses():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \|([^|]*)\|[^|]*\|$", text, re.M)
    said = {package: set(re.findall(r"`([\w.]+)`", imported)) for package, imported in rows if "." in package or
            (ROOT / "beam_coresets" / package).is_dir()}  # fmt: skip
    assert said == {package: set(imported.split()) for package, imported in house.MAY_IMPORT.items()}


def test_figures_have_commands():
    lines = (ROOT / "docs/benchmarks.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and "---" not in line]
    figures = [row for row in rows if row[0] != "what"]
    assert len(figures) > 60
    above = ""
    for row in figures:
        assert len(row) == 3, row
        above = above if row[2].startswith("·") else row[2]
        assert re.search(r"benchmarks/\w+\.py|make [a-z]|python -m pytest", above), row
