"""The docs as a site: read without a network, whole, and built only if its links lead somewhere (`make docs`)."""
import html
import html.parser
import importlib
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest
from documents import DOCS, PAGES, ROOT

SITE = os.environ.get("BEAM_CORESETS_SITE")
pytestmark = pytest.mark.skipif(not SITE, reason="needs the built site: run `make docs`")
FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "video": "src"}
PACKAGES = ("beam_coresets", "beam_coresets.summaries", "beam_coresets.transforms")


class Read(html.parser.HTMLParser):
    """A page's anchors, what its links lead to, and what a browser fetches to show it."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.fetched = set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if known.get("id"):
            self.anchors.add(known["id"])
        if tag == "a" and known.get("href"):
            self.links.append(known["href"])
        if known.get(FETCHED.get(tag, "")) and known.get("rel") != "canonical":
            self.fetched.append(known[FETCHED[tag]])


@pytest.fixture(scope="module")
def pages():
    """Path in the site -> the page."""
    root = ROOT / SITE
    return {path.relative_to(root): Read(path) for path in root.rglob("*.html")}


def local(address):
    """Whether an address is in the site."""
    return not urllib.parse.urlsplit(address).netloc and not address.startswith(("mailto:", "data:"))


def test_no_page_fetches_anything_from_elsewhere(pages):
    fetched = [address for page in pages.values() for address in page.fetched]
    assert len(fetched) > len(pages), "style and script"
    assert [address for address in fetched if not local(address) and not address.startswith("data:")] == []
    styles = [path.read_text() for path in (ROOT / SITE).rglob("*.css")]
    assert styles
    assert [found for style in styles for found in re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", style)] == []
    assert not any("fonts." in path.read_text() for path in (ROOT / SITE).rglob("*.html"))


def test_every_link_and_everything_fetched_is_there(pages):
    followed = 0
    for at, page in pages.items():
        if at.name == "404.html":
            continue  # its addresses begin at the site's root
        for address in filter(local, [*page.links, *page.fetched]):
            path, _, anchor = urllib.parse.unquote(address).partition("#")
            target = pathlib.Path(os.path.normpath(at.parent / path)) if path else at
            assert (ROOT / SITE / target).is_file(), (str(at), address)
            if anchor and target in pages:
                assert anchor in pages[target].anchors, (str(at), address)
                followed += 1
    assert followed > 500


def test_every_page_of_the_checkout_is_in_the_site(pages):
    names = {str(path) for path in pages}
    assert {f"{page.stem}.html" for page in DOCS} <= names
    assert {"project/readme.html", "project/contributing.html", "project/changelog.html"} <= names
    assert {f"runners/{page.parent.name}.html" for page in PAGES if page.parts[-3] == "templates"} <= names
    assert {f"notebooks/{script.stem}.html" for script in (ROOT / "docs/notebooks").glob("*.py")} <= names


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(pages, package):
    anchors = pages[pathlib.Path(f"reference/{package}.html")].anchors
    assert {f"{package}.{name}" for name in importlib.import_module(package).__all__} <= anchors


def test_examples_of_the_reference_are_code():
    text = (ROOT / SITE / "reference/beam_coresets.transforms.html").read_text()
    shown = re.findall(r"<code>(.*?)</code></pre>", text, re.S)
    blocks = [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in shown]
    assert any(block.strip().endswith('\nrows | WriteAssigned("out")') for block in blocks)
    assert "Example:" not in text


def test_a_notebooks_text_and_code_are_told_apart():
    text = (ROOT / SITE / "notebooks/embeddings.html").read_text()
    assert "<h1" in text
    assert "# %%" not in text
    assert "<p>Here all rows are at hand" in text


@pytest.mark.parametrize(("line", "said"), [
    ("[x](no-such-page.md)", "no-such-page.md"), ("[x](output.md#no-such-heading)", "no-such-heading"),
    ("[x](../templates/flink/README.md#no-such-heading)", "no-such-heading"), ("![x](images/none.png)", "none.png"),
])  # fmt: skip
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path, line, said):
    for name in ("beam_coresets", "transforms", "templates", "mkdocs.yml", *(path.name for path in ROOT.glob("*.md"))):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").mkdir()
    for path in (ROOT / "docs").iterdir():
        (tmp_path / "docs" / path.name).symlink_to(path)
    index = tmp_path / "docs/index.md"
    text = index.read_text()
    index.unlink()
    index.write_text(f"{text}\n{line}\n")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})  # fmt: skip
    assert done.returncode != 0
    (warned,) = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert said in warned
