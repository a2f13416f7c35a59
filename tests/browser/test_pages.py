"""The pages in a real browser (headless Chromium): they draw, run nothing of others', and read well for everybody."""
import os
import pathlib
import re
import shutil
import threading
import time

import numpy as np
import pytest
from jobs import summarize_files, write_parquet
from windows_written import answer, minute, write, write_keys

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.views.newest import Asked
from beam_coresets.pipelines.views.server import LiveFolder, LiveServer
from beam_coresets.streaming.windows import Window

WIDTHS = (360, 800, 1600)
HOSTILE = "<script>document.title='run'</script>\u202e\"'><img src=x onerror=\"document.title='run'\">"


@pytest.fixture(scope="module")
def browser():
    chromium = os.environ.get("BEAM_CORESETS_CHROMIUM") or shutil.which("chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: run `make test-pages`")
    if chromium is None:
        pytest.skip("needs Chromium (Debian: chromium): run `make test-pages`")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


class Shown:
    """A page in the browser, with what it said on its console and asked for."""

    def __init__(self, browser, url, width=1000, **more):
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **more)
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def drawn(self, times=1):
        """Once it has been drawn so often."""
        until = time.monotonic() + 60
        while self.page.evaluate("Number(document.body.dataset.drawn || 0)") < times:
            assert time.monotonic() < until, (self.said, self.page.inner_text("header"))
            time.sleep(0.02)
        return self

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()

    def sections(self):
        return [name.removeprefix("section-") for name in self.page.eval_on_selector_all(
            "section[id]", "all => all.filter(each => each.offsetHeight > 0).map(each => each.id)")]  # fmt: skip


def report(folder):
    assert main(["report", str(folder)]) == 0
    return pathlib.Path(folder, "report.html").as_uri()


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Minutes 0 to 5 and 8 to 20; shard 1 is away for a while."""
    folder = tmp_path_factory.mktemp("pages") / "out"
    for i in (*range(6), *range(8, 21)):
        write(folder, answer(minute(i), i, missing=(1,) if 10 <= i < 14 else (1, 2) if i == 14 else ()))
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_is_drawn_within_the_page_and_nothing_is_asked_for(browser, stream, width, scheme):
    url = report(stream)
    shown = Shown(browser, url, width, color_scheme=scheme).drawn()
    assert shown.sections() == ["points", "centers", "columns", "cost", "coverage", "shards", "lag"]
    assert shown.page.locator(".chart svg, .chart canvas").count() == 5
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in shown.page.locator(".chart:visible").all():
        box = chart.bounding_box()
        assert 150 < box["width"] <= width
        assert box["height"] > 60
        assert len(chart.get_attribute("aria-label")) > 10
    assert shown.said == []
    assert shown.asked == [url]
    shown.page.close()


def test_what_is_missing_is_drawn_as_missing(browser, stream):
    shown = Shown(browser, report(stream)).drawn()
    runs = shown.page.locator("#chart-shards path[aria-label*='no answer']")
    labels = runs.evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    assert len([label for label in labels if re.search(r"windows: 5\b", label)]) == 1, "shard 1, minutes 10 to 14"
    assert len([label for label in labels if re.search(r"windows: 1\b", label)]) == 1, "shard 2, minute 14"
    lines = shown.page.locator("#chart-cost g.mark-line path").get_attribute("d")
    assert lines.count("M") == 2, "the line is broken where there is no window"
    shown.page.close()


def test_texts_of_others_are_shown_and_never_run(browser, tmp_path):
    for i in range(3):
        write(tmp_path / "out", answer(minute(i, HOSTILE), i, columns=(HOSTILE, "y", "z")))
        write(tmp_path / "out", answer(minute(i, "other"), i + 7, columns=(HOSTILE, "y", "z")))
    shown = Shown(browser, report(tmp_path / "out")).drawn()
    assert HOSTILE in shown.page.locator("#key option").all_text_contents()
    assert HOSTILE in shown.page.locator("#x-axis option").all_text_contents()
    assert HOSTILE in shown.page.locator("#centers th").all_text_contents()
    shown.page.select_option("#x-axis", "0")
    shown.drawn(2)
    shown.page.hover("#chart-points canvas")
    assert "run" not in shown.page.title()
    assert shown.page.locator("img").count() == 0
    assert shown.said == []
    shown.page.close()


def test_a_key_and_axes_are_chosen_and_the_words_follow(browser, tmp_path):
    for i in range(3):
        write_keys(tmp_path / "out", minute(i), {"north": i, "south": i + 10})
    shown = Shown(browser, report(tmp_path / "out")).drawn()
    costs = []
    for times, key in ((2, "north"), (3, "south")):
        shown.page.select_option("#key", label=key)
        shown.drawn(times)
        costs.append(shown.page.get_attribute("#chart-cost", "aria-label"))
    assert len(set(costs)) == 2
    shown.page.select_option("#y-axis", label="z")
    shown.drawn(4)
    assert shown.said == []
    shown.page.close()


def test_a_range_of_k_shows_its_curve(browser, tmp_path):
    write(tmp_path / "out", answer(Window(), 3))
    assert main(["solve", "--input", str(tmp_path / "out"), "--output", str(tmp_path / "by-k"), "--k", "2:5"]) == 0
    shown = Shown(browser, report(tmp_path / "by-k")).drawn()
    assert shown.sections() == ["curve", "centers"]
    assert shown.page.get_attribute("#chart-curve", "aria-label").startswith("The cost of k = 2 to 5: from ")
    shown.page.select_option("#key", label="k = 4")
    shown.drawn(2)
    assert shown.page.locator("#centers tbody tr").count() == 4
    assert shown.said == []
    shown.page.close()


def test_what_is_far_off_is_said_and_drawn_when_asked_for(browser, tmp_path):
    points = np.random.default_rng(5).normal(size=(2_000, 2))
    points[:3] = [[1e5, 0], [0, -1e5], [1e5, 1e5]]
    write_parquet(tmp_path / "in", {"x": points[:, 0], "y": points[:, 1]})
    assert summarize_files(f"{tmp_path}/in/*", tmp_path / "out", "--k", "4", "--shards", "2") == 0
    shown = Shown(browser, report(tmp_path / "out")).drawn()
    said = "Far off and not drawn: 3 of these rows ("
    assert said in shown.page.inner_text("#text-points")
    assert said in shown.page.get_attribute("#chart-points", "aria-label")
    shown.page.check("#far")
    shown.drawn(2)
    assert said not in shown.page.inner_text("#text-points")
    assert shown.said == []
    shown.page.close()


def test_bounds_of_a_constraint_are_shown_with_what_is_binding(browser, tmp_path):
    write(tmp_path / "out", answer(Window(), 3))
    asked = ("--max-size", "102", "--k", "4")
    assert main(["solve", "--input", str(tmp_path / "out"), "--output", str(tmp_path / "to"), *asked]) == 0
    shown = Shown(browser, report(tmp_path / "to"), 360).drawn()
    assert shown.sections() == ["points", "centers", "bounds", "columns"]
    assert shown.texts("#bounds tbody td:nth-child(4)") == ["at most 102"] * 4
    states = shown.texts("#bounds tbody td:nth-child(2)")
    assert states == sorted(states)
    assert states[0] == "binding"
    assert f"Of 4 bounds {states.count('binding')} " in shown.page.inner_text("#text-bounds")
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert shown.said == []
    shown.page.close()


def test_no_serious_finding_of_accessibility(browser, stream):
    axe = os.environ.get("BEAM_CORESETS_AXE")
    if axe is None:
        pytest.skip("needs axe-core (npm): run `make test-pages`")
    for scheme in ("light", "dark"):
        shown = Shown(browser, report(stream), color_scheme=scheme, bypass_csp=True).drawn()
        shown.page.add_script_tag(path=axe)
        found = shown.page.evaluate("axe.run()")
        assert len(found["passes"]) > 10
        serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in serious] == []
        shown.page.close()


def test_a_live_page_shows_what_comes(browser, tmp_path):
    live = LiveFolder(str(tmp_path / "out"), 100, Asked())
    with LiveServer(live, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            live.start()
            shown = Shown(browser, server.address)
            shown.page.wait_for_selector("#problem:has-text('waiting for the first window')")
            write(tmp_path / "out", answer(minute(0), 0))
            shown.drawn()
            assert "00:00:00 to 2026-11-21 00:01:00" in shown.page.inner_text("#when")
            shown.page.select_option("#x-axis", label="z")
            shown.drawn(2)
            write(tmp_path / "out", answer(minute(1), 1, missing=(1,)))
            shown.page.wait_for_selector("#when:has-text('00:02:00')")
            shown.drawn(3)
            assert shown.page.eval_on_selector("#x-axis", "each => each.selectedOptions[0].textContent") == "z"
            assert "no answer from 1" in shown.page.inner_text("#answer")
            assert not shown.page.is_visible("#problem")
            assert {url.split("?")[0].rsplit("/", 1)[0] for url in shown.asked} == {server.address.rstrip("/")}
            errors = [text for text in shown.said if "503" not in text]  # as long as there was no window
            assert errors == []
            shown.page.close()
        finally:
            live.stop()
            server.shutdown()
            thread.join()


def test_whatever_is_in_a_folder_it_is_drawn_without_a_word_on_the_console(browser, tmp_path):
    """One row; no answer at all; windows forty years apart; a folder that an earlier version wrote."""
    write(tmp_path / "one", answer(Window(), 0, rows=1))
    write(tmp_path / "none", answer(minute(0), 0, missing=(0, 1, 2, 3)))
    for i in (0, 1, 60 * 24 * 365 * 40):
        write(tmp_path / "years", answer(minute(i), i % 50))
    golden = pathlib.Path(__file__).parents[1] / "golden" / "0.1" / "stream"
    shutil.copytree(golden, tmp_path / "earlier")
    for name in ("one", "none", "years", "earlier"):
        shown = Shown(browser, report(tmp_path / name)).drawn()
        assert shown.said == [], name
        assert shown.page.inner_text("#answer"), name
        shown.page.close()
