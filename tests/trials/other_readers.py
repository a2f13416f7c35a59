"""Reads odd files with this package, pandas, DuckDB and pyarrow, and lists where they differ.

    python tests/trials/other_readers.py [--files 500] [--all]

Needs duckdb and pandas. The files are those of `odd_files.py`, and generated ones of
`tests/transforms/reading/test_bookkeeping.py`, whose dialect every reader is told. Avro is read by fastavro in place of
the three. All are asked for the columns x and y as numbers. Files that are taken alike are counted; the others stand in
a table: a row for each class of difference, with an example (`--all`: with every file).
"""
import argparse
import collections
import datetime
import decimal
import math
import os
import pathlib
import re
import sys
import tempfile
import warnings

import duckdb
import fastavro
import odd_files
import pandas as pd
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from beam_coresets.points.block import PointBlock
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.reading.columns import Columns

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "transforms" / "reading"))
from test_bookkeeping import odd_file

KINDS = ((odd_files.CSV, "csv"), (odd_files.JSON, "json"), (odd_files.PARQUET, "parquet"), (odd_files.AVRO, "avro"))
REASONS = {
    "null": "no number", "nan": "no number", "infinite": "no number", "unparsable": "no number",
    "too large": "no number", "columns": "other width", "quote": "open quote",
}  # fmt: skip
EPOCH = datetime.datetime(1970, 1, 1)


def ours(path, columns):
    """(rows of [x, y], with the reason in place of a refused row)."""
    source = ReadBlocks(path, columns)
    rows, bad = {}, {}
    for each in source.here():
        if isinstance(each, PointBlock):
            for number, point in zip(each.ids.tolist(), each.points.tolist(), strict=True):
                rows[number & (2**32 - 1)] = [float(value) for value in point]
        else:
            bad[int(each.position[4:])] = REASONS.get(each.reason.partition(":")[0], each.reason)
    return [rows[i] if i in rows else bad[i] for i in sorted({*rows, *bad})]


def value(cell):
    """A cell as a number where it is one, None where it is nothing, else as a text."""
    if cell is None or cell is pd.NaT or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, (pd.Timestamp, pd.Timedelta)):  # which know nanoseconds
        return cell.as_unit("ns").value / 1e9
    if isinstance(cell, datetime.datetime):
        return (cell.replace(tzinfo=None) - (cell.utcoffset() or datetime.timedelta()) - EPOCH).total_seconds()
    if isinstance(cell, datetime.date):
        return float((cell - EPOCH.date()).days * 86400)
    if isinstance(cell, datetime.time):
        return cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6
    if isinstance(cell, datetime.timedelta):
        return cell.total_seconds()
    try:
        return float(cell) if isinstance(cell, (int, float, decimal.Decimal)) or hasattr(cell, "dtype") else str(cell)
    except (TypeError, ValueError):
        return str(cell)


def pairs(x, y):
    return [[value(a), value(b)] for a, b in zip(x, y, strict=True)]


def separator(path, columns):
    return columns.delimiter or ("\t" if ".tsv" in path else ",")


def by_pandas(path, columns):
    name = os.path.basename(path)
    if ".parquet" in name:
        table = pd.read_parquet(path)
    elif ".json" in name:
        with open(path, "rb") as file:
            array = file.read(1) == b"["
        table = pd.read_json(path, lines=not array, encoding="utf-16" if bom16(path) else "utf-8")
    else:
        told = {"header": None} if columns.header is False else {}
        encoding = columns.encoding or ("utf-16" if bom16(path) else "utf-8")
        table = pd.read_csv(path, sep=separator(path, columns), decimal=columns.decimal or ".", comment=columns.comment,
                            encoding=encoding, **told)  # fmt: skip
        if told:
            table = table.rename(columns={0: "x", 1: "y"})
    return pairs(table["x"].tolist(), table["y"].tolist())


def bom16(path):
    with open(path, "rb") as file:
        return file.read(2) in (b"\xff\xfe", b"\xfe\xff")


def by_duckdb(path, columns):
    name = os.path.basename(path)
    if ".parquet" in name:
        rows = duckdb.sql(f"select x, y from read_parquet('{path}')").fetchall()
    elif ".json" in name:
        rows = duckdb.sql(f"select x, y from read_json('{path}')").fetchall()
    else:
        told = []
        if columns.header is not None:
            told = [f"header={str(columns.header).lower()}", f"delim='{separator(path, columns)}'"]
            told += [f"decimal_separator='{columns.decimal}'"] * bool(columns.decimal)
            told += [f"comment='{columns.comment}'"] * bool(columns.comment)
        encoding = "utf-16" if bom16(path) or "utf-16" in str(columns.encoding) else columns.encoding
        told += [f"encoding='{encoding}'"] * bool(encoding and encoding != "utf-8")
        table = duckdb.sql(f"select * from read_csv('{path}'{''.join(', ' + each for each in told)})")
        places = [table.columns.index(each) for each in "xy"] if columns.header is not False else [0, 1]
        rows = [[row[j] for j in places] for row in table.fetchall()]
    return pairs([row[0] for row in rows], [row[1] for row in rows])


def by_pyarrow(path, columns):
    name = os.path.basename(path)
    if ".parquet" in name:
        table = pq.read_table(path)
    elif ".json" in name:
        table = pajson.read_json(path)
    else:
        encoding = columns.encoding or ("utf-16" if bom16(path) else "utf8")
        none = columns.header is False
        table = pacsv.read_csv(
            path, pacsv.ReadOptions(encoding=encoding, use_threads=False, autogenerate_column_names=none),
            pacsv.ParseOptions(delimiter=separator(path, columns), newlines_in_values=True),
            pacsv.ConvertOptions(decimal_point=columns.decimal or "."),
        )  # fmt: skip
        if none:
            table = table.rename_columns([*"xyz"][: len(table.column_names)])
    return pairs(*([as_python(cell) for cell in table[each]] for each in "xy"))


def as_python(cell):
    try:
        return cell.as_py()
    except ValueError:  # nanoseconds
        return cell.value / 1e9


def by_fastavro(path, columns):
    with open(path, "rb") as file:
        rows = list(fastavro.reader(file))
    return pairs([row["x"] for row in rows], [row["y"] for row in rows])


READERS = {"pandas": by_pandas, "DuckDB": by_duckdb, "pyarrow": by_pyarrow}


def files(count):
    """(name, bytes, columns as they are asked for)."""
    asked = Columns(columns=("x", "y"))
    found = [(f"{name}.{suffix}", raw, asked) for those, suffix in KINDS for name, raw in those.items()]
    seed = 0
    while len(found) < count:
        odd, seed = odd_file(seed), seed + 1
        if odd.rows and not odd.name.endswith((".npy", ".bz2", ".xz")) and ".txt" not in odd.name:
            found.append((f"seed {seed - 1}.{odd.name.partition('.')[2]}", odd.raw, odd.columns))
    return found


def outcome(reader, path, columns):
    try:
        return reader(path, columns)
    except BaseException as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


def same(row, other):
    return all(
        isinstance(b, (int, float)) and (a == b or abs(a - b) <= 1e-6 * max(abs(a), abs(b)))
        for a, b in zip(row, other, strict=True)
    )


def difference(we, they):
    """(what we do, what they do) with a file; None if the same."""
    if isinstance(we, str) or isinstance(they, str):
        if isinstance(we, str) and isinstance(they, str):
            return None
        if isinstance(we, str):
            return f"refuse the file: {shape(we)}", "read it"
        return refusals(we) or "read it", "refuse the file"
    good = [row for row in we if not isinstance(row, str)]
    if len(we) != len(they):
        if len(good) == len(they) and all(map(same, good, they)):
            return refusals(we), "leave these rows out"
        return refusals(we) or "read it", "find more rows" if len(they) > len(we) else "find fewer rows"
    ours, theirs = set(), set()
    for row, other in zip(we, they, strict=True):
        if isinstance(row, str) or not same(row, other):
            ours.add(f"refuse rows: {row}" if isinstance(row, str) else f"read {described(row)}")
            theirs.add(described(other))
    return (", ".join(sorted(ours)), f"read {', '.join(sorted(theirs))}") if ours else None


def refusals(rows):
    refused = sorted({row for row in rows if isinstance(row, str)})
    return f"refuse rows: {', '.join(refused)}" if refused else ""


def described(row):
    """What is in a row besides numbers."""
    kinds = {None: "nothing", math.inf: "infinity", -math.inf: "infinity"}
    odd = {"text" if isinstance(cell, str) else kinds[cell] for cell in row if isinstance(cell, str) or cell in kinds}
    return " and ".join(sorted(odd)) or "numbers"


def shape(error):
    """The requirement that an error names."""
    return re.sub(r", got .*|, as .*| by .*| among .*|/\S+|\(.*", "", error.partition(": ")[2])[:70].strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--all", action="store_true")
    known = parser.parse_args()
    warnings.simplefilter("ignore")
    classes, alike, count = collections.defaultdict(list), collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, raw, columns) in enumerate(files(known.files)):
            path = f"{folder}/{i}.{name.rpartition('.')[2] if 'seed' not in name else name.partition('.')[2]}"
            with open(path, "wb") as file:
                file.write(raw)
            we = outcome(ours, path, columns)
            for label, reader in ({"fastavro": by_fastavro} if ".avro" in path else READERS).items():
                count[label] += 1
                they = outcome(reader, path, columns)
                if (found := difference(we, they)) is None:
                    alike[label] += 1
                else:
                    form = path.partition(".")[2].split(".")[0].replace("jsonl", "json").replace("tsv", "csv")
                    classes[(*found, form)].append((label, name))
    print("class | files | what we do | what they do | example")
    for i, ((we, they, form), those) in enumerate(sorted(classes.items(), key=lambda item: (item[0][2], item[0]))):
        who = collections.Counter(label for label, _ in those)
        names = list(dict.fromkeys(name for _, name in those))
        shown = ", ".join(f"{label} {times}" for label, times in who.items())
        examples = ", ".join(names if known.all else names[:4])
        print(f"{form} {i + 1} | {len(names)} ({shown}) | {we} | {they} | {examples}")
    print("alike: " + ", ".join(f"{label} {alike[label]} of {count[label]}" for label in count))


if __name__ == "__main__":
    main()
