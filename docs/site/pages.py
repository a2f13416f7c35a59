"""Pages of the site that are no files of `docs/`: README and its like, notebooks, the reference; and links to them.

mkdocs calls `on_files` and `on_page_markdown`. Links stand in the pages as GitHub reads them, from file to file of the
checkout; here they are made to lead from page to page.
"""
import ast
import pathlib
import posixpath
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
REFERENCE = {  # package -> the file that says what it offers
    "beam_coresets": "beam_coresets/__init__.py",
    "beam_coresets.summaries": "beam_coresets/summaries/__init__.py",
    "beam_coresets.transforms": "transforms/__init__.py",
}
SOURCES = {  # file of the checkout -> its page
    **{f"{name}.md": f"project/{name.lower()}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")},
    **{str(path.relative_to(ROOT)): f"runners/{path.parent.name}.md" for path in ROOT.glob("templates/*/README.md")},
    **{str(path.relative_to(ROOT)): f"notebooks/{path.stem}.md" for path in ROOT.glob("docs/notebooks/*.py")},
}
FILES = {"templates/duckdb/views.sql": "files/views.sql"}  # what pages offer to take along
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCED = re.compile(r"(^```.*?^```)", re.S | re.M)


def on_files(files, config):
    """Adds the pages that are made, and the files that are linked."""
    for source, page in SOURCES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=notebook(text) if source.endswith(".py") else text))
    for source, target in FILES.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for package, source in REFERENCE.items():
        files.append(File.generated(config, f"reference/{package}.md", content=reference(package, ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links between files of the checkout into links between pages."""
    del config, files
    here = next((source for source, made in SOURCES.items() if made == page.file.src_uri), f"docs/{page.file.src_uri}")
    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else linked(part, here, page.file.src_uri) for part in parts)


def linked(text, here, page):
    """The text of a page, with the links of its source `here`."""

    def one(found):
        before, target, anchor, after = found.groups(default="")
        if "://" in target:
            return found[0]
        source = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        to = {**SOURCES, **FILES}.get(source, source.removeprefix("docs/"))
        return f"{before}{posixpath.relpath(to, posixpath.dirname(page) or '.')}{anchor}{after}"

    return LINK.sub(one, text)


def notebook(script):
    """A script with cells (`# %%`, and `# %% [markdown]` for text) as a page."""
    cells = re.split(r"^# %%(.*)\n", script, flags=re.M)
    page = []
    for kind, cell in zip(cells[1::2], cells[2::2], strict=True):
        if "[markdown]" in kind:
            page.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in cell.strip().splitlines()))
        else:
            page.append(f"```python\n{cell.strip()}\n```")
    return "\n\n".join(page) + "\n"


def reference(package, source):
    """A page with the docstring of every name that a package offers."""
    tree = ast.parse(source.read_text())
    (names,) = (ast.literal_eval(node.value) for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")  # fmt: skip
    return "\n\n".join([f"# {package}", *(f"::: {package}.{name}" for name in names)]) + "\n"
