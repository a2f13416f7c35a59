"""Every row of a file is read or refused, or the file is: over generated files of every format, dialect and corruption.

    python tests/transforms/reading/test_bookkeeping.py 10000        # so many files, from seed 0 on
"""
import bz2
import collections
import dataclasses
import gzip
import io
import json
import lzma
import os
import random
import re
import sys
import tempfile

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns
from beam_coresets.transforms.reading.formats import FilePart
from beam_coresets.transforms.streams.folder.files import FileParts, read_rows
from beam_coresets.transforms.streams.folder.source import Folder
from beam_coresets.transforms.text import records

TEXTS = ["a", "", "x y", "Köln", "été", "1", "-", "don't"]
ODD_TEXTS = ["a,b", "a;b", 'say "no"', "two\nlines", "cr\rlf\r\n", "tab\there", "#no"]
PACKS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
         ".zst": lambda raw: pa.compress(raw, "zstd", asbytes=True)}  # fmt: skip
BAD_LINES = ['{"x": 1', '{"x": "a", "y": 1}', "[1, 2]", '{"y": 1}', '{"x":1,"y":2} {"x":1,"y":2}', "null", "7"]
FORMATS = ["csv"] * 8 + ["text"] * 2 + ["jsonl"] * 3 + ["json", "parquet", "avro", "npy"]


@dataclasses.dataclass
class Odd:
    """A generated file.

    Attributes:
      name, raw: what it is called and holds.
      columns: what is asked of it, with all that its dialect is.
      guess: whether the dialect may be left to be guessed.
      rows: for each row its coordinates, or None if it must be refused; None where the file is damaged and may be
        refused as a whole.
      count: the number of rows; -1 or None where it is not known.
      what: for messages.
    """

    name: str
    raw: bytes
    columns: Columns
    guess: bool
    rows: list | None
    count: int | None
    what: str


def number(rng):
    """One that float32 holds, as blocks may be float32."""
    return rng.choice([rng.randint(-99, 99) * 1.0, rng.randint(-999, 999) / 4, rng.randint(-(2**20), 2**20) / 8])


def odd_file(seed):
    """The file of a seed."""
    rng = random.Random(seed)
    kind = rng.choice(FORMATS)
    n = rng.choice([0, 1, 2, 5, 20, 60, 300])
    rows = [[number(rng), number(rng)] for _ in range(n)]
    return {"csv": csv_file, "text": text_file, "jsonl": json_lines_file}.get(kind, binary_file)(rng, kind, rows)


def damaged(rng, raw, pack, packed):
    """(what was done, the bytes) to a file as a whole; the name of a kind of damage, or "" for none."""
    how = rng.choice(["", "", "", "cut", "flip", "append", "inner"])
    data = packed(raw)
    if how == "" or not data:
        return "", data
    if how == "inner" and pack:
        return "", data
    at = rng.randrange(len(data))
    if how == "append":
        return how, data + bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
    if how == "cut":
        return how, data[:at]
    return "flip", data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def csv_file(rng, kind, rows):
    delimiter = rng.choice(",,,;;\t|")
    decimal = "," if delimiter != "," and rng.random() < 0.4 else "."
    encoding = rng.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
    end = rng.choice(["\n", "\n", "\r\n", "\r"])
    quoting = rng.choice(["none", "none", "some", "all"])
    comment = rng.choice([None, None, "#"])
    header = rng.random() < 0.8
    texts = TEXTS + (ODD_TEXTS if quoting != "none" else [])
    with_text = rng.random() < 0.6
    faults = rng.choice(["", "", "cells", "widths", "quotes"])
    if faults == "quotes":
        texts, quoting = TEXTS, "some" if quoting == "none" else quoting

    def cell(text):
        needs = any(sign in text for sign in (delimiter, '"', "\n", "\r", "#"))
        if quoting == "all" or (quoting == "some" and (needs or rng.random() < 0.2)):
            return '"' + text.replace('"', '""') + '"'
        return text

    def line(x, y, text):
        return delimiter.join(map(cell, [x, y, text][: 2 + with_text]))

    def written(value):
        return repr(value).replace(".", decimal)

    lines = [delimiter.join(map(cell, ["x", "y", "t"][: 2 + with_text]))] if header else []
    truth = []
    for x, y in rows:
        text = rng.choice(texts)
        row = line(written(x), written(y), text)
        good = [x, y]
        if faults and truth and rng.random() < 0.15:
            good = None
            if faults == "cells":
                row = line(rng.choice(["abc", "", "NA", "1_0", "1.2.3", "nan", "1e999"]), written(y), text)
            elif faults == "widths":
                row = rng.choice([row + delimiter + "1", row.split(delimiter)[0] if quoting == "none" else "5"])
            else:
                row = delimiter.join(["1", '"2', "t"][: 2 + with_text])
        if comment and row.startswith(comment):
            row = " " + row
        lines.append(row)
        truth.append(good)
        if rng.random() < 0.03:
            lines.append("")
        if comment and rng.random() < 0.05:
            lines.append('# it\'s "so')
    text = end.join(lines) + (end if rng.random() < 0.7 else "")
    raw = text.encode(encoding, "replace")
    pack = rng.choice([*PACKS, "", "", ""])
    columns = Columns(
        columns=("x", "y") if header else ("f0", "f1"), header=header, delimiter=delimiter, decimal=decimal,
        encoding=None if encoding in ("utf-8-sig", "utf-16") else encoding, comment=comment,
        keep_columns=("t" if header else "f2",) if with_text and encoding != "latin-1" and rng.random() < 0.5 else (),
    )  # fmt: skip
    how, data = damaged(rng, raw, pack, PACKS[pack])
    count: int | None = len(truth)
    if how and not pack:
        plain = encoding in ("utf-8", "latin-1") and b'"' not in data and b"\0" not in data
        count = lines_of(data, comment) - header if plain else -1
        truth = None
    elif how:
        truth, count = None, counted_if_read(pack, truth)
    guess = count is not None and count >= 5 and header and not faults and comment is None and not how
    name = "a.tsv" if delimiter == "\t" and rng.random() < 0.5 else "a.csv"
    what = f"{delimiter!r} {decimal} {encoding} {end!r} quotes {quoting} faults {faults!r} damage {how!r} {header}"
    return Odd(name + pack, data, columns, guess, truth, count, what)


def counted_if_read(pack, truth):
    """The number of rows of a compressed file that is damaged and can be read all the same; .zst has no checksum."""
    return None if pack == ".zst" else len(truth)


def lines_of(data, comment=None):
    found = [line for line in re.split(rb"\r|\n", data) if line]
    return sum(not (comment and line.startswith(comment.encode())) for line in found)


def text_file(rng, kind, rows):
    truth, lines = [], []
    for row in rows:
        good, line = row, rng.choice(["", " "]) + rng.choice([" ", "\t", "   "]).join(map(repr, row))
        if rng.random() < 0.05:
            good, line = None, rng.choice(["1", "1 2 3", "a 1", '1 "2', "1 nan"])
        truth.append(good)
        lines.append(line)
        if rng.random() < 0.05:
            lines.append(rng.choice(["", "  "]))
    if truth and not any(truth):
        return text_file(rng, kind, rows)
    end = rng.choice(["\n", "\r\n", "\r"])
    raw = (end.join(lines) + end).encode()
    pack = rng.choice([*PACKS, "", ""])
    how, data = damaged(rng, raw, pack, PACKS[pack])
    count: int | None = len(truth)
    if how:
        words = [line for line in re.split(rb"\r|\n", data) if line.strip(b" \t\v\f")]
        truth, count = None, counted_if_read(pack, truth) if pack else len(words)
    return Odd("a.txt" + pack, data, Columns(columns=("f0", "f1")), False, truth, count, f"text {end!r} damage {how!r}")


def json_lines_file(rng, kind, rows):
    truth, lines = [], []
    for x, y in rows:
        record = {"x": x, "y": y, "t": rng.choice(TEXTS + ODD_TEXTS)}
        good, line = [x, y], json.dumps(record, ensure_ascii=rng.random() < 0.5)
        if truth and rng.random() < 0.1:
            good, line = None, rng.choice(BAD_LINES)
        truth.append(good)
        lines.append(line)
    end = rng.choice(["\n", "\r\n", "\r"])
    encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"])
    raw = (end.join(lines) + rng.choice([end, ""])).encode(encoding)
    pack = rng.choice([*PACKS, "", ""])
    how, data = damaged(rng, raw, pack, PACKS[pack])
    count: int | None = len(truth)
    if how:
        counted = [line for line in re.split(rb"\r|\n", data) if line.strip()]
        count = counted_if_read(pack, truth) if pack else len(counted) if encoding == "utf-8" else -1
        truth = None
    columns = Columns(columns=("x", "y"), keep_columns=rng.choice([(), ("t",)]))
    return Odd("a.jsonl" + pack, data, columns, False, truth, count, f"json {end!r} {encoding} damage {how!r}")


def binary_file(rng, kind, rows):
    out = io.BytesIO()
    names, table = ("x", "y"), np.array(rows, float).reshape(-1, 2)
    if kind == "json":
        rows = [row if i == 0 or rng.random() < 0.9 else None for i, row in enumerate(rows)]
        values = [rng.choice([5, {"x": 1}]) if row is None else dict(zip("xy", row, strict=True)) for row in rows]
        out.write(json.dumps(values, indent=rng.choice([None, 1])).encode(rng.choice(["utf-8", "utf-16"])))
    elif kind == "parquet":
        size, codec = rng.choice([1, 7, 1000]), rng.choice(["snappy", "gzip", "none"])
        pq.write_table(pa.table(dict(zip(names, table.T, strict=True))), out, row_group_size=size, compression=codec)
    elif kind == "avro":
        fields = [{"name": name, "type": "double"} for name in names]
        schema = {"type": "record", "name": "R", "fields": fields}
        made = [dict(zip(names, row, strict=True)) for row in rows]
        fastavro.writer(out, schema, made, codec=rng.choice(["null", "deflate"]), sync_interval=rng.choice([64, 16000]))
    else:
        names = ("f0", "f1")
        np.save(out, np.asarray(table, order=rng.choice("CF")))
    how, data = damaged(rng, out.getvalue(), "", bytes)
    count = None if how and kind == "json" else len(rows)
    return Odd(f"a.{kind}", data, Columns(columns=names), False, None if how else rows, count, f"{kind} damage {how!r}")


def read_all(odd, columns, path, part_bytes):
    """(good rows, how many were refused, their places) of each reader in turn."""
    source = ReadBlocks(path, columns, part_bytes=part_bytes)
    found = list(source.here())
    blocks = [each for each in found if isinstance(each, PointBlock)]
    letters = [each for each in found if not isinstance(each, PointBlock)]
    points = np.concatenate([block.points for block in blocks])
    rows = np.concatenate([block.ids for block in blocks]) & np.uint64(2**32 - 1)
    yield points, rows.astype(int).tolist(), [int(each.position[4:]) for each in letters]
    parts = FileParts(path, columns, part_bytes=part_bytes)
    reader, points, places, refused = parts.reader(0, 1), [], [], []
    reader.seek(parts.starts())
    while chunks := reader.read(0.0):
        for chunk in chunks:
            points.append(chunk.points)
            refused += [int(each.position[4:]) for each in chunk.letters]
    yield np.concatenate(points) if points else np.empty((0, 2)), None, refused
    folder = Folder(path, columns)
    whole = FilePart(path, 0, os.path.getsize(path), 0)
    points, refused = [np.empty((0, 2))], []
    for rows in read_rows([whole], folder.form(path), folder.layout(path)):
        points.append(rows.block.points)
        places += rows.offsets.tolist()
        refused += [int(each.position[4:]) for each in rows.letters]
    yield np.concatenate(points), places, refused


def outcome(odd, folder, rng):
    """"read", "refused" or "asked": what becomes of a file; raises AssertionError for a loss."""
    path = os.path.join(folder, odd.name)
    with open(path, "wb") as file:
        file.write(odd.raw)
    told = odd.columns
    if odd.guess:
        told = dataclasses.replace(told, delimiter=None, decimal=None, header=None)
        if told.encoding in ("utf-8", "utf-16-le"):
            told = dataclasses.replace(told, encoding=None)
    result = "read"
    for columns in (told, odd.columns):
        try:
            for points, places, refused in read_all(odd, columns, path, rng.choice([1, 1 << 20])):
                check(odd, points, places, refused)
            return result
        except ValueError as error:
            said = str(error)
        asked = re.match(r"(delimiter|decimal|encoding|no_header|comment): must be given.*\ba\.", said)
        if columns is odd.columns or not asked:
            break
        result = "asked"
    assert not odd.rows, f"{odd.what}: {said}"
    assert "a." in said, f"no file in {said}"
    return "refused"


def check(odd, points, places, refused):
    """Raises AssertionError unless all rows are there, each once."""
    assert len(set(refused)) == len(refused), f"{odd.what}: refused twice {refused}"
    total = len(points) + len(refused)
    assert odd.count in (None, -1, total), f"{odd.what}: {total} of {odd.count} rows"
    if odd.rows is not None:
        assert sorted(refused) == [i for i, row in enumerate(odd.rows) if row is None], odd.what
        good = [row for row in odd.rows if row is not None]
        np.testing.assert_array_equal(points, np.array(good, points.dtype).reshape(-1, 2), odd.what)
        if places is not None:
            assert places == [i for i, row in enumerate(odd.rows) if row is not None], odd.what


def run(seeds):
    """Counts of what became of the files of some seeds, and those that were lost."""
    found, lost = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            rng = random.Random(-seed)
            records.PIECE_BYTES = rng.choice([37, 500, 4 << 20])
            odd = odd_file(seed)
            try:
                found[outcome(odd, folder, rng)] += 1
            except Exception as error:
                lost.append((seed, odd.name, f"{type(error).__name__}: {error}"[:400]))
            os.remove(os.path.join(folder, odd.name))
    return found, lost


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_no_row_is_lost_in_silence(first, monkeypatch):
    monkeypatch.setattr(records, "PIECE_BYTES", records.PIECE_BYTES)
    found, lost = run(range(first, first + 40))
    assert not lost
    assert found["read"] > 10


if __name__ == "__main__":
    print(*run(range(int(sys.argv[1]))), sep="\n")
