"""The page as a file: whole, closed to the outside, and what others have written stays text."""
import base64
import gzip
import hashlib
import html.parser
import json
import pathlib
import re

import pytest
from windows_written import answer, minute, write, write_keys, write_minutes

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.views.charts import specifications
from beam_coresets.pipelines.views.contents import contents_at
from beam_coresets.streaming.windows import Window

HOSTILE = [
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "'\"><b>", "\u202eright to left",
    "\x1b[31mred", "x" * 10_000, "a&b;", "{{key}}", "${1}", "",
]  # fmt: skip


class Page(html.parser.HTMLParser):
    """The elements of a page, and the content of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data

    @property
    def contents(self):
        (held,) = [s for (tag, a), s in zip([e for e in self.elements if e[0] == "script"], self.scripts, strict=True)
                   if a.get("id") == "contents"]  # fmt: skip
        return json.loads(gzip.decompress(base64.b64decode(held)))


def report(folder, *words):
    assert main(["report", str(folder), *words]) == 0
    return (pathlib.Path(folder) / "report.html").read_text()


@pytest.fixture
def folder(tmp_path):
    write_minutes(tmp_path / "out", range(3))
    return tmp_path / "out"


def test_the_page_holds_what_the_folder_has_and_comes_again_the_same(folder, capsys):
    page = Page(report(folder))
    assert capsys.readouterr().out.strip() == f"Page: {folder / 'report.html'}"
    expected = contents_at(str(folder))
    assert {**page.contents, "written": 0} == {**json.loads(json.dumps(expected)), "written": 0}
    first = (folder / "report.html").read_text()
    assert len(report(folder)) == pytest.approx(len(first), abs=100), "it is written over"


def test_nothing_is_asked_for_from_anywhere(folder):
    page = Page(report(folder))
    for tag, attributes in page.elements:
        assert not {"src", "href", "action", "srcset", "data", "poster"} & set(attributes), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    (policy,) = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'none'")
    run = [(a, s) for (tag, a), s in zip([e for e in page.elements if e[0] == "script"], page.scripts, strict=True)
           if "type" not in a]  # fmt: skip
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for _, s in run}
    assert len(hashes) == 4
    assert set(rules["script-src"].split()) == hashes, "just our own scripts run, and no text becomes code"


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_others_are_nowhere_in_the_page_as_html(tmp_path, text):
    window = answer(Window(minute(0).start, minute(0).end, text, 1), 0, columns=(text or "x", "y", "z"))
    write(tmp_path / "out", window)
    before = [tag for tag, _ in Page(report(tmp_path / "out")).elements]
    page = Page((tmp_path / "out" / "report.html").read_text())
    write(tmp_path / "plain", answer(minute(0), 0))
    assert before == [tag for tag, _ in Page(report(tmp_path / "plain")).elements], "as many elements as any page"
    assert page.contents["keys"] == [text if len(text) <= 300 else text[:300] + "…"]


def test_a_folder_with_a_hostile_name_is_shown_by_its_name(tmp_path):
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    write(folder, answer(minute(0), 0))
    assert "<img" not in report(folder)


@pytest.mark.parametrize(("words", "message"), [
    (["--x", "w"], "x: must be one of x, y, z, principal axis 1, principal axis 2, got 'w'"),
    (["--key", "w"], "key: must be one of"), (["--from", "2030-01-01"], "must hold windows of that time"),
    (["--output", "/no/such/folder/page.html"], "output: must be a file that can be written"),
    (["--windows", "0"], "windows: must be at least 1"),
])  # fmt: skip
def test_what_cannot_be_shown_is_one_line(folder, words, message, capsys):
    assert main(["report", str(folder), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.glob(".report*")), "nothing is left"


def test_dimensions_of_one_and_of_two_thousand_are_shown(tmp_path):
    import dataclasses

    import numpy as np
    from windows_written import PLAN

    from beam_coresets.coordinator.decision import decide
    from beam_coresets.points.block import blocks_of
    from beam_coresets.results.summary import summarize
    from beam_coresets.shards.merge_reduce import shard_reports

    for dim in (1, 2, 2000):
        points = np.random.default_rng(dim).normal(size=(200, dim))
        question = dataclasses.replace(PLAN.question, quick=True)
        decision = decide(shard_reports(blocks_of(points, rows=100), PLAN.merge_reduce), PLAN.policy)
        write(tmp_path / str(dim), summarize(decision, question, minute(0)))
        latest = Page(report(tmp_path / str(dim))).contents["latest"][0]
        assert len(latest["axes"]) == {1: 1, 2: 2, 2000: 14}[dim]
        assert len(latest["points"]["id"]) == latest["coreset_points"]


def test_the_charts_are_what_they_were():
    """Changed on purpose: `python tests/pages/test_page.py` writes them anew; look at the page first."""
    assert json.loads(json.dumps(specifications())) == json.loads(CHARTS.read_text())


def test_lengths_are_compared_from_zero_and_shares_by_the_whole():
    charts = specifications()
    assert charts["letters"]["encoding"]["x"]["scale"]["zero"] is True
    assert charts["curve"]["layer"][0]["encoding"]["y"]["scale"]["zero"] is True
    (bars,) = [layer for layer in charts["coverage"]["layer"] if layer["data"]["name"] == "windows"]
    assert bars["encoding"]["y"]["scale"]["domain"] == [0, 1]
    assert bars["encoding"]["y2"] == {"datum": 0}


def test_all_data_that_charts_name_is_made_by_the_page():
    made = (pathlib.Path(specifications.__code__.co_filename).parent / "assets" / "page.js").read_text()
    names = set(re.findall(r'"name": "(\w+)"', json.dumps(specifications())))
    assert names == {"points", "centers", "named", "cost", "drift", "gaps", "events", "windows", "spans", "missing",
                     "deadline", "letters", "curve"}  # fmt: skip
    assert [name for name in names if not re.search(rf"\b{name}\b", made)] == []


def test_a_range_of_k_is_one_page(tmp_path):
    write(tmp_path / "out", answer(Window(), 3))
    assert main(["solve", "--input", str(tmp_path / "out"), "--output", str(tmp_path / "by-k"), "--k", "2:5"]) == 0
    contents = Page(report(tmp_path / "by-k")).contents
    assert contents["keys"] == ["k = 2", "k = 3", "k = 4", "k = 5"]
    assert contents["curve"]["k"] == [2, 3, 4, 5]
    assert [len(latest["centers"]["name"]) for latest in contents["latest"]] == [2, 3, 4, 5]


def test_keys_of_one_window_have_their_own_words(tmp_path):
    write_keys(tmp_path / "out", minute(0), {"north": 1, "south": 2})
    contents = Page(report(tmp_path / "out")).contents
    said = [dict(latest["answer"])["cost"] for latest in contents["latest"]]
    assert len(set(said)) == 2


CHARTS = pathlib.Path(__file__).with_name("charts.json")

if __name__ == "__main__":
    CHARTS.write_text(json.dumps(specifications(), indent=1) + "\n")
