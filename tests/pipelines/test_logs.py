"""What is logged beside a command's own lines, as a terminal gets it."""
import io
import logging

import pytest

from beam_coresets.pipelines.console import live
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.running import logs

HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202e\rb"


def like_a_new_process(monkeypatch):
    logger = logging.getLogger()
    for name, value in (("handlers", []), ("level", logging.WARNING)):
        monkeypatch.setattr(logger, name, value)
    monkeypatch.setattr(logging.getLogger("beam_coresets"), "level", logging.WARNING)
    monkeypatch.setattr(logging.getLogger("apache_beam"), "level", logging.NOTSET)


@pytest.mark.parametrize("install", [logs.ours_alone, logs.all_there_is])
def test_log_lines_are_text(install, monkeypatch, capsys):
    like_a_new_process(monkeypatch)
    monkeypatch.setattr("threading.excepthook", None)
    install()
    logging.getLogger("beam_coresets.transforms").warning("%s: %s", HOSTILE, "vanished\nas it was read")
    said = capsys.readouterr().err
    assert said.startswith("WARNING:beam_coresets.transforms:a\\x1b[2J")
    assert said.endswith("vanished\nas it was read\n")
    assert all(character.isprintable() for character in said.replace("\n", ""))


def test_lines_of_windows_are_text():
    row = {"responded": [0], "shards": 2, "stragglers": [1], "decided_at": 1.0, "window_end": 0.5, "window_start": 0.0,
           "cost": None, "cost_high": None, "reason": HOSTILE, "revision": 1, "coverage": 0.5, "points": 3,
           "key": HOSTILE, "degraded": False}  # fmt: skip
    out = io.StringIO()
    (line,) = live.Lines(2).of(row)
    Terminal(file=out, width=500).print(line, highlight=False)
    shown = out.getvalue()
    assert shown.count("a\\x1b[2J") == 2
    assert all(character.isprintable() for character in shown.replace("\n", ""))
