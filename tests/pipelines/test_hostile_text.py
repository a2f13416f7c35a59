"""Whatever ids, keys, labels, names of columns and refused rows hold: on a terminal it is text and short."""
import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from windows_written import answer, minute, write

from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running.texts import MOST_TEXT, escape, one_line
from beam_coresets.results.summary import summary_of_keys

ODD = "\x1b]0;own\x07\x1b[38;5;99mred\x9b2J\u202eabc\u200f\u2066\r\x08\nforged\tq[bold]x[/]"
LONG = "L" * 10_000
N = 40
ACTED_UPON = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
OF_RICH = re.compile(r"\x1b\[(?!38;5;99)\??[0-9;]*[a-zA-Z]|\r")  # of bars that move, too
COLUMNS = (f"x{ODD}", f"y{LONG}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`in`: a file with some rows to refuse; `plain`: what summarize makes of it; `keys`: two windows with odd keys."""
    where = tmp_path_factory.mktemp("odd")
    random, odd = np.random.default_rng(1), np.arange(N) % 2 == 1
    label = np.where(odd, f"{ODD}m", f"{LONG}f")
    held = pa.table({
        COLUMNS[0]: random.normal(size=N), COLUMNS[1]: np.r_[[np.nan], random.normal(size=N - 1) + 20 * odd[1:]],
        "id": [f"{ODD if i % 2 else LONG}{i}" for i in range(N)], "note": label, "sex": label,
    })  # fmt: skip
    (where / "in").mkdir()
    pq.write_table(held, where / "in" / f"{ODD.translate({ord('/'): None})}.parquet")
    for i in range(2):
        parts = [answer(dataclasses.replace(minute(i), key=key), 7 * i + j, columns=(*COLUMNS, "z"))
                 for j, key in enumerate((f"{ODD}k", LONG, "plain"))]  # fmt: skip
        write(where / "keys", summary_of_keys(minute(i), parts))
    assert main(["summarize", *DATA.format(where).split("|"), "--output", f"{where}/plain", "--k", "3", "--shards", "2",
                 "--group-column", "sex", "--keep-columns", "note"]) == 0  # fmt: skip
    assert main(["solve", "--input", f"{where}/plain", "--output", f"{where}/solved", "--k", "2"]) == 0
    return where


DATA = "--input|{0}/in/*.parquet|--id-column|id|--max-bad-rows|5"
COMMANDS = {
    "summarize": (DATA + "|--output|{0}/again|--k|3|--shards|2|--overwrite", 0),
    "explain": (DATA + "|--output|{0}/again|--k|3|--shards|2|--explain", 0),
    "refuses": ("--input|{0}/in/*.parquet|--id-column|id|--output|{0}/none|--k|3|--shards|2", 1),
    "solve": ("--input|{0}/plain|--output|{1}/to|--k|2|--fair|" + ODD + "m=0.1:0.9", 0),
    "solve nobody": ("--input|{0}/plain|--output|{1}/to|--k|2|--fair|nobody=0.1:0.9", 2),
    "solve range": ("--input|{0}/keys|--output|{1}/to|--k|2:3", 0),
    "solve keys": ("--input|{0}/keys|--output|{1}/to|--k|2", 0),
    "compare": ("{0}/plain|{0}/solved", 0),
    "compare keys": ("{0}/keys|{0}/keys", 2),
    "show": ("{0}/plain", 0),
    "show keys": ("{0}/keys", 0),
    "report": ("{0}/keys", 0),
    "report key": ("{0}/keys|--key|none", 2),
    "report axis": ("{0}/plain|--x|none", 2),
    "rollup": ("--input|{0}/keys|--output|{1}/to", 0),
    "verify": (DATA + "|--coreset|{0}/plain", 0),
    "verify others": (DATA + "|--coreset|{0}/keys", 2),
    "assign": (DATA + "|--centers|{0}/plain|--output|{1}/to", 0),
}


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_of_it_acts_upon_a_terminal(folder, tmp_path, capsys, monkeypatch, name, colours):
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")
    options, code = COMMANDS[name]
    word = {"explain": "summarize", "refuses": "summarize"}.get(name, name.split(" ")[0])
    capsys.readouterr()
    assert main([word, *options.format(folder, tmp_path).split("|")]) == code
    for said in capsys.readouterr():
        said = OF_RICH.sub("", said) if colours else said
        assert ACTED_UPON.findall(said) == []
        assert "\nforged" not in said
        assert colours or max(map(len, said.splitlines()), default=0) <= 1_100, "but for bars, which are one line"


@pytest.mark.parametrize("text", [ODD, LONG, ODD + LONG, LONG + ODD, "a" * MOST_TEXT, "naïve 東京"])
def test_a_text_is_a_line(text):
    shown = one_line(text)
    assert shown.isprintable()
    assert len(shown) <= 10 * MOST_TEXT
    if len(text) > MOST_TEXT:
        assert shown.endswith(f" ({len(text):,} characters)")
    elif text != ODD:
        assert shown == text


def test_markup_of_others_is_text():
    assert escape("[bold]x[/]") == r"\[bold]x\[/]"
