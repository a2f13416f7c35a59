"""Small files that readers take in different ways, by name; columns x and y are numbers where there are any."""
import datetime
import decimal
import io
import json
import uuid

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

CSV = {
    "open_mid": b'x,y,t\n1,2,a\n3,4,"b\n5,6,c\n7,8,d\n',
    "open_last": b'x,y,t\n1,2,a\n3,4,"b\n',
    "open_first": b'x,y,t\n1,2,"a\n3,4,b\n5,6,"c"\n',
    "quote_mid": b'x,y,t\n1,2,5"3\n3,4,6\n',
    "quote_space": b'x,y,t\n1,2, "a,b"\n3,4,c\n',
    "after_quote": b'x,y,t\n1,2,"a"b\n3,4,c\n',
    "after_quote_space": b'x,y,t\n1,2,"a" \n3,4,c\n',
    "backslash": b'x,y,t\n1,2,"say \\"no\\""\n3,4,c\n',
    "short": b'x,y,t\n1,2,a\n3,4\n5,6,b\n',
    "long": b'x,y,t\n1,2,a\n3,4,b,c\n5,6,b\n',
    "trailing_delim": b'x,y\n1,2,\n3,4,\n',
    "trailing_both": b'x,y,\n1,2,\n3,4,\n',
    "r_header": b'x,y\na,1,2\nb,3,4\n',
    "blank": b'x,y\n\n1,2\n\n\n3,4\n\n',
    "space_line": b'x,y\n1,2\n   \n3,4\n',
    "cr": b'x,y\r1,2\r3,4\r',
    "mixed": b'x,y\r\n1,2\n3,4\r5,6',
    "crcrlf": b'x,y\r\r\n1,2\r\r\n',
    "bom": b'\xef\xbb\xbfx,y\n1,2\n',
    "utf16": b'\xff\xfex\x00,\x00y\x00\n\x001\x00,\x002\x00\n\x00',
    "utf16le": b'x\x00,\x00y\x00\n\x001\x00,\x002\x00\n\x003\x00,\x004\x00\n\x00',
    "latin": b'x,y,t\n1,2,K\xf6ln\n',
    "nul": b'x,y,t\n1,2,a\x00b\n3,4,c\n',
    "nul_num": b'x,y\n1\x00,2\n3,4\n',
    "no_end": b'x,y\n1,2\n3,4',
    "header_only": b'x,y\n',
    "empty": b'',
    "newlines": b'\n\n\n',
    "dup": b'x,y,y\n1,2,3\n',
    "noname": b',x,y\n0,1,2\n1,3,4\n',
    "num_header": b'1,2\n3,4\n5,6\n',
    "comment": b'# c\nx,y\n1,2\n',
    "comment_end": b'x,y\n1,2 # no\n3,4\n',
    "thousands": b'x,y\n"1,234",2\n"5,678",3\n',
    "decimal": b'x;y\n1,5;2,5\n3,5;4,5\n',
    "german": b'x;y\n1.234,5;2\n0,5;7\n',
    "hex": b'x,y\n0x10,2\n3,4\n',
    "inf": b'x,y\ninf,2\n-Infinity,3\nnan,4\n5,6\n',
    "na": b'x,y\nNA,1\nnull,2\nNULL,3\nNone,4\n<NA>,5\nN/A,6\n#N/A,7\n-,8\n.,9\n?,10\n1,11\n',
    "zeros": b'x,y\n007,1\n08,2\n',
    "plus": b'x,y\n+1,2\n+3.5,4\n',
    "d_exp": b'x,y\n1d5,2\n3,4\n',
    "percent": b'x,y\n5%,2\n3,4\n',
    "currency": b'x,y\n$5,2\n3,4\n',
    "underscore": b'x,y\n1_000,2\n3,4\n',
    "bigint": b'x,y\n123456789012345678901234567890,2\n3,4\n',
    "bool": b'x,y\ntrue,2\nfalse,4\n',
    "quoted": b'"x","y"\n"1","2"\n"3","4"\n',
    "single": b"x,y\n'1','2'\n'3','4'\n",
    "tabs": b'x\ty\n1\t2\n3\t4\n',
    "pipes": b'x|y\n1|2\n3|4\n',
    "spaces": b'x y\n1 2\n3 4\n',
    "spaces2": b'x  y\n1   2\n3  4\n',
    "sep": b'sep=;\nx;y\n1;2\n',
    "footer": b'x,y\n1,2\n3,4\nTotal: 2 rows\n',
    "units": b'x,y\nm,kg\n1,2\n3,4\n',
    "again": b'x,y\n1,2\nx,y\n3,4\n',
    "fullwidth": b'x,y\n\xef\xbc\x91,2\n3,4\n',
    "minus": b'x,y\n\xe2\x88\x921,2\n3,4\n',
    "nbsp": b'x,y\n1\xc2\xa0000,2\n3,4\n',
    "ctrl_z": b'x,y\n1,2\n\x1a',
    "vt": b'x,y\n1\x0b,2\n3,4\n',
    "ls": b'x,y,t\n1,2,a\xe2\x80\xa8b\n3,4,c\n',
    "nel": b'x,y,t\n1,2,a\xc2\x85b\n',
    "ff": b'x,y\n1,2\x0c\n3,4\n',
    "space_cells": b'x, y\n 1 , 2 \n3,4\n',
    "denormal": b'x,y\n1e-400,1e400\n5e-324,1.7976931348623157e308\n',
    "dots": b'x,y\n1.,.5\n-.5,+1.e3\n',
    "multiline": b'x,y,t\n1,2,"a\nb\n\nc"\n3,4,d\n',
    "multiline_crlf": b'x,y,t\r\n1,2,"a\r\nb"\r\n3,4,d\r\n',
    "quoted_empty": b'x,y,t\n1,2,""\n"",4,b\n',
    "one_col": b'x\n1\n\n3\n',
    "one_col_q": b'x\n1\n""\n3\n',
    "pandas_index": b',x,y\n0,1,2\n1,3,4\n',
    "title": b'Report 2020\n\nx,y\n1,2\n',
    "dates": b'x,y,d\n1,2,2020-01-01\n3,4,2020-01-02\n',
    "semi_in_text": b'x,y,t\n1,2,a;b\n3,4,c;d\n',
    "latin_num": b'x,y,t\n1,2,\xff\xfe\n3,4,\x80\n',
    "quote_in_header": b'"x,1",y\n1,2\n',
    "exp": b'x,y\n1E5,1e+5\n-1E-5,2\n',
    "colon": b'x,y\n12:30,1\n13:00,2\n',
    "frac": b'x,y\n1/2,3\n4,5\n',
    "lone_cr": b'x,y,t\n1,2,a\rb\n3,4,c\n',
    "double_delim": b'x,,y\n1,,2\n',
    "tab_in_comma": b'x,y\n1\t,2\n3,4\n',
    "emoji": b'x,y,t\n1,2,\xf0\x9f\x98\x80\n',
    "surrogate": b'x,y,t\n1,2,\xed\xa0\x80\n',
    "overlong": b'x,y,t\n1,2,\xc0\xaf\n',
    "long_text": b'x,y,t\n1,2,"' + b"z" * 5000 + b'"\n3,4,c\n',
    "late_text": b"x,y\n" + b"1,2\n" * 1500 + b"abc,2\n",
    "late_wide": b"x,y\n" + b"1,2\n" * 1500 + b"1,2,3\n",
}

_AS_X = ("1", "1.5", "1e3", "-0.0", "1E400", "9007199254740993", "123456789012345678901234567890", '"1"', '" 1 "',
         '"a"', "null", "true", "[1]", '{"a": 1}', "NaN", "Infinity", "-Infinity", "01", "+1", ".5",
         "1.", "0x1", "'1'")  # fmt: skip
JSON = {f"value {value}": f'{{"x": {value}, "y": 2}}\n{{"x": 3, "y": 4}}\n'.encode() for value in _AS_X} | {
    "absent": b'{"y": 2}\n{"x": 3, "y": 4}\n',
    "twice": b'{"x": 1, "x": 5, "y": 2}\n{"x": 3, "y": 4}\n',
    "other case": b'{"X": 1, "y": 2}\n{"x": 3, "y": 4}\n',
    "more later": b'{"x": 1, "y": 2}\n{"x": 3, "y": 4, "z": 5}\n',
    "order": b'{"x": 1, "y": 2}\n{"y": 4, "x": 3}\n',
    "blank": b'\n{"x": 1, "y": 2}\n\n   \n{"x": 3, "y": 4}\n',
    "cr": b'{"x": 1, "y": 2}\r{"x": 3, "y": 4}\r',
    "crlf": b'{"x": 1, "y": 2}\r\n{"x": 3, "y": 4}\r\n',
    "no end": b'{"x": 1, "y": 2}\n{"x": 3, "y": 4}',
    "one line": b'{"x": 1, "y": 2}{"x": 3, "y": 4}\n',
    "one line, blank": b'{"x": 1, "y": 2} {"x": 3, "y": 4}\n',
    "comma": b'{"x": 1, "y": 2},\n{"x": 3, "y": 4}\n',
    "cut": b'{"x": 1, "y": 2}\n{"x": 3, "y"',
    "cut in the middle": b'{"x": 1, "y": 2}\n{"x": 3, "y"\n{"x": 5, "y": 6}\n',
    "no object": b'{"x": 1, "y": 2}\n7\n{"x": 5, "y": 6}\n',
    "null line": b'{"x": 1, "y": 2}\nnull\n{"x": 5, "y": 6}\n',
    "comment": b'# c\n{"x": 1, "y": 2}\n{"x": 5, "y": 6}\n',
    "bom": b'\xef\xbb\xbf{"x": 1, "y": 2}\n{"x": 5, "y": 6}\n',
    "utf16": '{"x": 1, "y": 2}\n{"x": 5, "y": 6}\n'.encode("utf-16"),
    "no utf8": b'{"x": 1, "y": 2, "t": "\xff"}\n{"x": 5, "y": 6}\n',
    "surrogate": b'{"x": 1, "y": 2, "t": "\\ud800"}\n{"x": 5, "y": 6}\n',
    "spread": b'{\n  "x": 1,\n  "y": 2\n}\n{\n  "x": 3,\n  "y": 4\n}\n',
    "array": b'[{"x": 1, "y": 2}, {"x": 3, "y": 4}]',
    "array, spread": json.dumps([{"x": 1, "y": 2}, {"x": 3, "y": 4}], indent=2).encode(),
    "array, comma": b'[{"x": 1, "y": 2}, {"x": 3, "y": 4},]',
    "array, cut": b'[{"x": 1, "y": 2}, {"x": 3, "y": 4}',
    "array, more": b'[{"x": 1, "y": 2}] [{"x": 3, "y": 4}]',
    "array, null": b'[{"x": 1, "y": 2}, null, {"x": 3, "y": 4}]',
    "array of arrays": b"[[1, 2], [3, 4]]",
    "columns": b'{"x": [1, 3], "y": [2, 4]}',
    "in an object": b'{"count": 2, "data": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}',
    "empty": b"",
    "empty array": b"[]",
    "late text": b'{"x": 1, "y": 2}\n' * 1500 + b'{"x": "abc", "y": 2}\n',
    "late field": b'{"y": 2}\n' * 1500 + b'{"x": 1, "y": 2}\n',
    "late null": b'{"x": null, "y": 2}\n' * 1500 + b'{"x": 1, "y": 2}\n',
}

_TYPES = {
    "int8": pa.int8(), "uint8": pa.uint8(), "int32": pa.int32(), "uint64": pa.uint64(), "half": pa.float16(),
    "float": pa.float32(), "decimal": pa.decimal128(12, 3), "decimal256": pa.decimal256(50, 3), "bool": pa.bool_(),
    "date": pa.date32(), "ms": pa.timestamp("ms"), "ns": pa.timestamp("ns"),
    "zone": pa.timestamp("us", "Europe/Berlin"),
    "time": pa.time64("us"), "duration": pa.duration("ms"), "text": pa.string(), "large text": pa.large_string(),
    "dictionary": pa.dictionary(pa.int8(), pa.float64()), "null": pa.null(),
}  # fmt: skip


def _of_type(kind):
    """Two values and a null."""
    if pa.types.is_null(kind):
        return pa.nulls(3)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array(["1", "2.5", None], kind)
    if pa.types.is_boolean(kind):
        return pa.array([True, False, None])
    if pa.types.is_temporal(kind):
        return pa.array([1, 3, None], pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)
    if pa.types.is_dictionary(kind):
        return pa.array([1.5, 2.5, None]).dictionary_encode()
    if pa.types.is_decimal(kind):
        return pa.array([decimal.Decimal("1.125"), decimal.Decimal("-2"), None], kind)
    return pa.array([1, 3, None], kind)


def _parquet(column, **more):
    out = io.BytesIO()
    y = pa.array([float(i) for i in range(len(column))])
    pq.write_table(pa.table({"x": column, "y": y}), out, **more)
    return out.getvalue()


PARQUET = {name: _parquet(_of_type(kind)) for name, kind in _TYPES.items()} | {
    "largest": _parquet(pa.array([2**64 - 1, 2**53 + 1, 0], pa.uint64())),
    "infinite": _parquet(pa.array([float("inf"), float("-inf"), float("nan"), 1.0])),
    "huge": _parquet(pa.array([1e300, 1.7976931348623157e308, 1.0])),
    "small groups": _parquet(pa.array([1.0, None, 3.0]), row_group_size=1),
    "page v2, zstd": _parquet(pa.array([1.0, None, 3.0]), data_page_version="2.0", compression="zstd"),
    "int96": _parquet(pa.array([1, 2]).cast(pa.timestamp("ns")), use_deprecated_int96_timestamps=True),
    "no row": _parquet(pa.array([], pa.float64())),
    "cut": _parquet(pa.array([1.0, 2.0]))[:-6],
}


def _avro(kind, values, **more):
    out = io.BytesIO()
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}, {"name": "y", "type": "double"}]}
    fastavro.writer(out, schema, [{"x": value, "y": float(i)} for i, value in enumerate(values)], **more)
    return out.getvalue()


AVRO = {
    "int": _avro("int", [1, 2]), "long": _avro("long", [2**62, 1]), "float": _avro("float", [1.5, 2.5]),
    "null or double": _avro(["null", "double"], [1.5, None]), "boolean": _avro("boolean", [True, False]),
    "long or double": _avro(["long", "double"], [1, 2.5]), "double or string": _avro(["double", "string"], [1.5, "a"]),
    "string": _avro("string", ["1", "a"]), "bytes": _avro("bytes", [b"1", b"2"]),
    "decimal": _avro({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
                     [decimal.Decimal("1.25"), decimal.Decimal("2")]),
    "ms": _avro({"type": "long", "logicalType": "timestamp-millis"},
                [datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.timezone.utc)] * 2),
    "date": _avro({"type": "int", "logicalType": "date"}, [datetime.date(1970, 1, 2)] * 2),
    "uuid": _avro({"type": "string", "logicalType": "uuid"}, [uuid.UUID(int=1)] * 2),
    "enum": _avro({"type": "enum", "name": "E", "symbols": ["a", "b"]}, ["a", "b"]),
    "array": _avro({"type": "array", "items": "double"}, [[1.0], [2.0]]),
    "infinite": _avro("double", [float("inf"), float("nan"), 1.0]),
    "deflate": _avro("double", [1.0, 2.0], codec="deflate"), "no row": _avro("double", []),
    "cut": _avro("double", [1.0, 2.0])[:-9],
}  # fmt: skip
