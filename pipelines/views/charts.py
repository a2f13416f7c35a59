"""The charts of a page as Vega-Lite specifications. Their data are named and come from the page's contents
(`assets/page.js`); their colours come from the page, light or dark, by the names of styles."""
from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
SEVERITIES = ("info", "warning", "critical")


def specifications() -> dict[str, Spec]:
    """All charts by the name of the section that they stand in."""
    return {
        "points": points(), "cost": over_time("cost", "cost", "cost_low", "cost_high", "cost of the centers"),
        "moved": over_time("drift", "moved", "moved_low", "moved_high", "share of the weight that moved", share=True),
        "excess": over_time("drift", "excess", "excess_low", "excess_high", "cost of the other centers, less own",
                            share=True),
        "events": events(), "coverage": coverage(), "shards": shards(), "lag": lag(), "letters": letters(),
        "curve": curve(),
    }  # fmt: skip


def points() -> Spec:
    """Sampled rows as discs whose area is their weight, centers as crosses with their names."""
    x, y = ({"field": name, "type": "quantitative", "title": name, "scale": {"zero": False, "nice": False}}
            for name in ("x", "y"))  # fmt: skip
    return _whole({
        "height": 460,
        "layer": [
            {
                "data": {"name": "points"},
                "mark": {"type": "circle", "style": "sampled"},
                "encoding": {
                    "x": x, "y": y,
                    "size": {"field": "weight", "type": "quantitative", "legend": None,
                             "scale": {"zero": True, "range": [2, 260]}},
                    "color": {"field": "cluster", "type": "nominal", "legend": None},
                    "tooltip": [_told("id", "row"), _told("weight", "weight", "quantitative"),
                                _told("cluster", "nearest center")],
                },
            },
            {
                "data": {"name": "centers"},
                "mark": {"type": "point", "shape": "cross", "style": "center"},
                "encoding": {
                    "x": x, "y": y,
                    "tooltip": [_told("name", "center"), _told("share", "share of the weight", "quantitative", ".2%"),
                                _told("row", "nearest row")],
                },
            },
            {
                "data": {"name": "named"},
                "mark": {"type": "text", "style": "name", "dx": 9, "dy": -9, "align": "left"},
                "encoding": {"x": x, "y": y, "text": {"field": "name", "type": "nominal"}},
            },
        ],
    })  # fmt: skip


def over_time(data: str, value: str, low: str, high: str, title: str, share: bool = False) -> Spec:
    """A figure of each window, with its 95 % interval; broken where there is no window."""
    x = _time("end")
    y: Spec = {"field": low, "type": "quantitative", "title": title, "scale": {"zero": share}}
    y["axis"] = {"format": ".1~%" if share else "~s"}
    form = ".2%" if share else ",.5~g"
    told = [_told("when", "window"), _told(value, title, "quantitative", form),
            _told(low, "low end", "quantitative", form), _told(high, "high end", "quantitative", form)]  # fmt: skip
    return _whole({
        "height": 200,
        "data": {"name": data},
        "layer": [
            _gaps(),
            {"mark": {"type": "area", "style": "interval"},
             "encoding": {"x": x, "y": y, "y2": {"field": high}}},
            {"mark": {"type": "line", "style": "estimate", "point": False},
             "encoding": {"x": x, "y": {"field": value, "type": "quantitative"}}},
            {"mark": {"type": "rule", "style": "ends"}, "encoding": {"x": x, "y": y, "y2": {"field": high}}},
            {"transform": [{"filter": {"field": "drifted", "equal": True}}],
             "mark": {"type": "point", "style": "drifted", "shape": "triangle-up", "filled": True},
             "encoding": {"x": x, "y": {"field": value, "type": "quantitative"}}},
            {"mark": {"type": "point", "style": "touched", "filled": True},
             "encoding": {"x": x, "y": {"field": value, "type": "quantitative"}, "tooltip": told}},
        ],
    })  # fmt: skip


def events() -> Spec:
    """A mark an event, in a line of its kind."""
    severity = {"field": "severity", "type": "nominal", "title": None}
    return _whole({
        "height": 160,
        "data": {"name": "events"},
        "mark": {"type": "point", "style": "event", "filled": True},
        "encoding": {
            "x": _time("at"),
            "y": {"field": "kind", "type": "nominal", "title": None},
            "color": {**severity, "scale": {"domain": list(SEVERITIES), "range": "severity"},
                      "legend": {"orient": "top"}},
            "shape": {**severity, "scale": {"domain": list(SEVERITIES), "range": ["circle", "triangle-up", "diamond"]}},
            "tooltip": [_told("when", "window"), _told("kind", "kind"), _told("sentence", "what")],
        },
    })  # fmt: skip


def coverage() -> Spec:
    """The share of the data that was answered for, from 0 to 1: a bar as wide as its window."""
    return _whole({
        "height": 90,
        "layer": [
            _gaps(),
            {
                "data": {"name": "windows"},
                "mark": {"type": "rect", "style": "answered"},
                "encoding": {
                    "x": _time("start"), "x2": {"field": "end"},
                    "y": {"field": "coverage", "type": "quantitative", "title": "coverage",
                          "scale": {"domain": [0, 1]}, "axis": {"format": ".0%", "tickCount": 3}},
                    "y2": {"datum": 0},
                    "tooltip": [_told("when", "window"), _told("coverage", "coverage", "quantitative", ".4~%"),
                                _told("answered", "shards that answered"), _told("points", "rows", "quantitative")],
                },
            },
        ],
    })  # fmt: skip


def shards() -> Spec:
    """Shards by time: where there are windows, and in them who did not answer or is not trusted."""
    y: Spec = {"field": "low", "type": "quantitative", "title": "shard", "axis": {"tickMinStep": 1, "format": "d"},
               "scale": {"nice": False, "zero": False}}  # fmt: skip
    return _whole({
        "height": 180,
        "layer": [
            {"data": {"name": "spans"}, "mark": {"type": "rect", "style": "there"},
             "encoding": {"x": _time("start"), "x2": {"field": "end"}, "y": y, "y2": {"field": "high"}}},
            {
                "data": {"name": "missing"},
                "mark": {"type": "rect", "style": "missing"},
                "encoding": {
                    "x": _time("start"), "x2": {"field": "end"}, "y": y, "y2": {"field": "high"},
                    **{name: {"field": "what", "type": "nominal", "title": None, "legend": {"orient": "top"},
                              "scale": {"range": "faults"}} for name in ("color", "stroke")},
                    "tooltip": [_told("shard", "shard"), _told("what", "what"), _told("when", "from, to"),
                                _told("windows", "windows", "quantitative")],
                },
            },
        ],
    })  # fmt: skip


def lag() -> Spec:
    """Seconds from the end of a window to its decision, and the deadline."""
    y = {"field": "lag", "type": "quantitative", "title": "seconds after its end", "scale": {"zero": True}}
    return _whole({
        "height": 140,
        "layer": [
            _gaps(),
            {"data": {"name": "windows"}, "mark": {"type": "point", "style": "dot", "filled": True},
             "encoding": {"x": _time("end"), "y": y,
                          "tooltip": [_told("when", "window"), _told("lag", "seconds", "quantitative"),
                                      _told("reason", "decided because of")]}},
            {"data": {"name": "deadline"}, "mark": {"type": "rule", "style": "deadline"},
             "encoding": {"y": {"field": "seconds", "type": "quantitative"}}},
            {"data": {"name": "deadline"},
             "mark": {"type": "text", "style": "name", "align": "left", "dx": 4, "dy": -6, "x": 0},
             "encoding": {"y": {"field": "seconds", "type": "quantitative"}, "text": {"field": "label"}}},
        ],
    })  # fmt: skip


def letters() -> Spec:
    """Refused rows by reason, as bars from zero."""
    y = {"field": "reason", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 220}}
    x = {"field": "count", "type": "quantitative", "title": "rows", "scale": {"zero": True}, "axis": {"tickMinStep": 1}}
    told = [_told("reason", "reason"), _told("count", "rows", "quantitative", ",")]
    return _whole({
        "height": 160,
        "data": {"name": "letters"},
        "mark": {"type": "bar", "style": "letter"},
        "encoding": {"y": y, "x": x, "tooltip": told},
    })


def curve() -> Spec:
    """What each k costs, with its interval."""
    x = {"field": "k", "type": "quantitative", "title": "k", "axis": {"tickMinStep": 1, "format": "d"},
         "scale": {"zero": False, "nice": False}}  # fmt: skip
    y = {"field": "cost_low", "type": "quantitative", "title": "cost", "scale": {"zero": True},
         "axis": {"format": "~s"}}  # fmt: skip
    value = {"field": "cost", "type": "quantitative"}
    told = [_told("k", "k"), _told("cost", "cost", "quantitative", ",.5~g"),
            _told("cost_low", "low end", "quantitative", ",.5~g"),
            _told("cost_high", "high end", "quantitative", ",.5~g")]  # fmt: skip
    return _whole({
        "height": 240,
        "data": {"name": "curve"},
        "layer": [
            {"mark": {"type": "area", "style": "interval"}, "encoding": {"x": x, "y": y, "y2": {"field": "cost_high"}}},
            {"mark": {"type": "line", "style": "estimate"}, "encoding": {"x": x, "y": value}},
            {"mark": {"type": "point", "style": "dot", "filled": True},
             "encoding": {"x": x, "y": value, "tooltip": told}},
        ],
    })  # fmt: skip


def _whole(spec: Spec) -> Spec:
    return {"$schema": SCHEMA, "width": "container", "autosize": {"type": "fit", "contains": "padding"}, **spec}


def _time(field: str) -> Spec:
    return {"field": field, "type": "temporal", "title": None, "scale": {"type": "utc"}}


def _told(field: str, title: str, kind: str = "nominal", form: str | None = None) -> Spec:
    told = {"field": field, "type": kind, "title": title}
    return told if form is None else {**told, "format": form}


def _gaps() -> Spec:
    """The times that no window is of."""
    return {
        "data": {"name": "gaps"},
        "mark": {"type": "rect", "style": "gap"},
        "encoding": {"x": _time("start"), "x2": {"field": "end"}, "tooltip": [_told("when", "no window")]},
    }
