"""Values of options: typical ones and odd ones, from their types and from a table by hand; and data for them."""
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_coresets.declared import Seconds, parameters

ROWS = 60
HUGE = "1000000000000"

BY_HAND = {
    "columns": ["x,y", "x", "x,y,z", "x,x", "nope", "", "x,größe"],
    "vector_column": ["v", "x", "nope"],
    "weight_column": ["w", "x", "none"],
    "id_column": ["id", "name", "x", "v"],
    "group_column": ["g", "id", "nope"],
    "keep_columns": ["name", "name,größe", "g", "x", "id", "weight", ""],
    "dim": ["2", "4", "0", HUGE],
    "input_format": ["csv", "parquet", "nope"],
    "max_bad_rows": ["0", "5", "-1", HUGE],
    "k": ["1", "3", "70", "0", "-2", HUGE],
    "shards": ["1", "2", "5", "0", HUGE],
    "replication": ["1", "2", "9", "0", HUGE],
    "z": ["1", "2.5", "0.5", "0", "-1", "nan", "inf", "1e300", "50"],
    "coreset_size": ["1", "5", "1000", "0", "-1", HUGE],
    "buckets": ["1", "8", "0", HUGE],
    "domains": ["0,0,1,1,2,2,3,3", "0,1", "", "a", "0,-1"],
    "min_shards": ["1", "2", "0", "99"],
    "drop_shards": ["1", "0,1", "99", "", "0,1,2,3,4,5,6,7"],
    "seed": ["0", "7", "-1", HUGE, "99999999999999999999999"],
    "r": ["0", "1", "2", "-1", "99"],
    "delta": ["0.5", "0", "-1", "nan", "1e300", "1e-300"],
    "epsilon": ["0.5", "0", "-0.1", "nan", "1e-9", "inf", "1e300"],
    "candidates": ["5", "1000", "0", HUGE],
    "outliers": ["5", "1%", "0.5", "0", "-1", "nan", "60%", HUGE],
    "tolerate": ["0", "1", "99", "-1"],
    "balanced": ["0.3", "0", "-0.1", "nan", "inf", "5"],
    "min_size": ["1", "5,10,15", "-1", "nan", "1e300", "0"],
    "max_size": ["1000", "30,30,30", "0", "nan", "-1"],
    "fair": ["a=0:0.9", ("a=0.1:0.8", "b=0:0.9"), "nope=0:1", "a=0.9:0.1", "a=0:0", "ä=0:1"],
    "label_groups": ["a=p,q", ("a=p", "b=p,q"), ("a=p", "a=q"), "nope=p"],
    "diversity": ["1", "2", "0", "99"],
    "gamma": ["20,20,20", "60", "1,2", "nan,nan,nan", "-1,2,59", "0,0,60"],
    "deadline": ["1s", "60s", "0s", "-1s", "1e9d", "soon"],
    "output": [],
    "input": [],
    "explain": [True],
    "delimiter": [",", ";", "ab", ""],
    "decimal": [".", ",", "x"],
    "encoding": ["utf-8", "latin-1", "none of them"],
    "null": ["NA", "a", ""],
    "comment": ["#", "0", "##", ""],
    "reference": ["nowhere"],
    "reference_at": ["0", "2026-01-01", "ä", "nan"],
    "reference_from": ["0", "2100-01-01", "nan"],
    "reference_to": ["0", "2100-01-01", "ä"],
    "quote": ['"', "'", "ab", ""],
}


def levels(kind, more=None):
    """Option -> words of it with each value, of all parameters of a dataclass of options."""
    table = {**BY_HAND, **(more or {})}
    found = {}
    for parameter in parameters(kind):
        values = table[parameter.name] if parameter.name in table else _of_type(parameter)
        words = [_words(parameter, value) for value in values]
        if words:
            found[parameter.name] = words
    return found


def _of_type(parameter):
    if parameter.flag:
        return [True]
    if parameter.choices:
        return [*parameter.choices, "none of them"]
    kind = parameter.kind
    if kind is int:
        return ["1", "2", "0", "-1", HUGE]
    if kind is float:
        return ["1", "0.5", "0", "-1", "nan", "1e300"]
    if kind is Seconds:
        return ["1s", "500ms", "0s", "-1s", "1e9d", "nan"]
    return ["1", "größe", ""]


def _words(parameter, value):
    if value is True:
        return (parameter.option,)
    if isinstance(value, tuple):
        return (parameter.option, *value)
    return (f"{parameter.option}={value}",)


def table_of_points():
    """A table of `ROWS` rows with columns of all kinds."""
    rng = np.random.default_rng(5)
    points = rng.standard_normal((ROWS, 3)) + 10 * (np.arange(ROWS) % 3)[:, None]
    numbers = np.arange(ROWS)
    return pa.table({
        "id": numbers, "x": points[:, 0], "y": points[:, 1], "z": points[:, 2].astype(np.float32),
        "w": 1.0 + numbers % 3, "g": [("a", "b", "c")[i % 3] for i in numbers],
        "name": [f"Zeile {i} ü" for i in numbers], "größe": numbers % 7, "t": 1_700_000_000 + numbers,
        "v": pa.array([[float(i % 5), float(i % 3), 1.0, float(i)] for i in numbers], pa.list_(pa.float32())),
    })  # fmt: skip


def write_data(folder):
    """Files of the same rows in several formats; name -> (path, rows)."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = table_of_points()
    pq.write_table(table, folder / "points.parquet", row_group_size=20)
    flat = table.drop_columns(["v"])
    names, rows = flat.column_names, flat.to_pylist()
    lines = [",".join(str(row[name]) for name in names) for row in rows]
    (folder / "points.csv").write_text("\n".join([",".join(names), *lines]) + "\n")
    (folder / "points.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    bad = [line if i % 20 else line.replace(",", ",oops", 1) for i, line in enumerate(lines)]
    (folder / "bad.csv").write_text("\n".join([",".join(names), *bad]) + "\n")
    (folder / "one.csv").write_text("\n".join([",".join(names), lines[0]]) + "\n")
    (folder / "header.csv").write_text(",".join(names) + "\n")
    np.save(folder / "points.npy", np.stack([flat.column(c).to_numpy() for c in ("x", "y", "z")], 1))
    return folder
