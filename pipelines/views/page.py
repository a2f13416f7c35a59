"""One HTML page with all that it needs: it asks nobody for anything."""
from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html
import importlib.resources
import json
from typing import Any

from beam_coresets.pipelines.views.charts import specifications

_SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.min.js", "page.js")
_SECTIONS = (  # name of the chart, heading, what it is
    ("points", "The data", "Sampled rows, their area by weight; crosses are centers."),
    ("curve", "Cost by number of centers", "The band is the 95 % interval."),
    ("cost", "Cost", "What each window's centers cost on all of its data. The band is the 95 % interval."),
    ("moved", "Mass that moved", "Share of the rows that changed clusters since the window compared with; triangles "
     "are drift."),
    ("excess", "Excess cost", "What the other window's centers cost on this one, over its own."),
    ("events", "Events", "What there was to tell."),
    ("coverage", "Coverage", "Share of the data that was answered for. Grey: there is no window."),
    ("shards", "Shards", "Who did not answer, or is not trusted, window by window."),
    ("lag", "Lag", "Seconds from the end of a window to its decision."),
    ("letters", "Refused rows", "Rows in dead_letters, by reason."),
)  # fmt: skip


@functools.cache
def asset(name: str) -> str:
    """A file of `assets`."""
    return (importlib.resources.files("beam_coresets.pipelines.views") / "assets" / name).read_text(encoding="utf-8")


def page(contents: str | None, title: str, live: bool = False) -> str:
    """The page.

    Args:
      contents: as `contents.packed` has them; None where the page asks for them, which is live.
      title: of the window that it is shown in. live: whether the page asks its server for what is new.
    """
    title = title.encode("utf-8", "replace").decode()  # names of folders need not be UTF-8
    held = "" if contents is None else base64.b64encode(gzip.compress(contents.encode(), 9, mtime=0)).decode()
    scripts = [asset(name) for name in _SCRIPTS]
    sources = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; " \
        f"form-action 'none'; connect-src {chr(39)}self{chr(39)}"  # fmt: skip
    if not live:
        policy = policy.replace("connect-src 'self'", "connect-src 'none'")
    charts = _json(specifications())
    drawn = "".join(_section(*each) for each in _SECTIONS[2:])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<title>{html.escape(title)}</title>
<style>{asset("page.css")}</style>
</head>
<body class="empty" data-live="{"yes" if live else "no"}">
<header>
<h1 id="title">{html.escape(title)}</h1>
<p><span id="when"></span> <span id="badge" class="badge"></span></p>
<p id="problem" role="status" hidden></p>
<noscript><p>This page draws with JavaScript, all of which is in it.</p></noscript>
<p><span id="keys" hidden><label>key <select id="key"></select></label></span></p>
</header>
<main>
<div class="pair">
<section><h2>The answer</h2><dl id="answer"></dl></section>
<section><h2>What is certain</h2><ul id="certificate"></ul>
<h2>What this does not cover</h2><ul id="limits"></ul></section>
</div>
{_section(*_SECTIONS[0], before=_AXES)}
{_section(*_SECTIONS[1])}
<section id="section-centers"><h2>Centers</h2>
<p>The heaviest first. Change of the share since the window before; shift in spreads of the cluster.</p>
<div class="wide" tabindex="0" role="region" aria-label="Centers"><table id="centers"></table></div></section>
<section id="section-bounds"><h2>Bounds</h2>
<p>What the constraint holds each cluster to, the tightest first. <span id="text-bounds"></span></p>
<div class="wide" tabindex="0" role="region" aria-label="Bounds"><table id="bounds"></table></div></section>
<section id="section-columns"><h2>Columns</h2><p>With the ends of 95 % intervals.</p>
<div class="wide" tabindex="0" role="region" aria-label="Columns"><table id="columns"></table></div></section>
{drawn}
<section id="section-notes"><h2>Left out</h2><ul id="notes"></ul></section>
</main>
<footer><p id="written"></p></footer>
<div id="tip" role="tooltip" hidden></div>
<script type="application/json" id="charts">{charts}</script>
<script type="text/plain" id="contents">{held}</script>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


_AXES = """<p id="axes"><label>across <select id="x-axis"></select></label>
<label>up <select id="y-axis"></select></label></p>
<p id="far-off" hidden><label><input type="checkbox" id="far"> draw what is far off, too</label></p>"""


def _section(name: str, heading: str, what: str, before: str = "") -> str:
    return (
        f'<section id="section-{name}"><h2>{heading}</h2><p>{what} <span id="text-{name}"></span></p>{before}'
        f'<div class="chart" id="chart-{name}" role="img"></div></section>\n'
    )


def _json(value: Any) -> str:
    """For a `<script>`: nothing in it ends one."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
