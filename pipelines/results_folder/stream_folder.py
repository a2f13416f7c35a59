"""Which stream an output folder is of: its windows, keys and format, noted down once and held against later streams."""
import json
import math
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_coresets import table_schemas
from beam_coresets.pipelines.results_folder.result_files import CLAIMS, read_record, standing
from beam_coresets.streaming.windows import WindowSpec
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.claims import Claims

VERSION = 1
_NOTE = "stream"


def require_same_stream(claims: Claims, window: str, key_column: str | None) -> None:
    """Holds a stream against what an earlier one has written to the folder that it owns now, and notes it down.

    Raises:
      ValueError: the folder is another stream's, or a batch job's.
    """
    output, spec = claims.output, WindowSpec.parse(window)
    found = standing(output)
    names = claims.own_since(()) or claims.last()
    if (found is not None and not found[1]["failed"]) or any(place_of(name)[1] == math.inf for name in names):
        raise ValueError(f"output: must not hold a batch job's result, got {output!r}")
    asked = {
        "format": claims.form, "window": [spec.kind, spec.size, spec.period], "key_column": key_column or None,
    }  # fmt: skip
    path = str(FileSystems.join(output, CLAIMS, _NOTE))
    if names:
        note = read_record(path, "notes of its stream", VERSION)
        schema = 1 if note is None else note.get("schema_version", 1)  # the first versions left no note
        if note is None or schema != table_schemas.SCHEMA_VERSION:
            raise ValueError(
                f"output: must hold tables of schema {table_schemas.SCHEMA_VERSION}, got {output!r} with windows of "
                f"schema {schema}, which another version has written: name another folder (`rollup` reads both)"
            )
        _hold(output, asked, note)
    note = {"version": VERSION, "schema_version": table_schemas.SCHEMA_VERSION, **asked}
    atomic_files.replace(path, json.dumps(note, indent=1).encode() + b"\n")


def require_stream(output: str) -> None:
    """Checks that a folder is a stream's, of this schema.

    Raises:
      ValueError: it is not.
    """
    path = str(FileSystems.join(output, CLAIMS, _NOTE))
    note = read_record(path, "notes of its stream", VERSION)
    if note is None:
        raise ValueError(f"output: must be a stream's folder, got {output!r} without {CLAIMS}/{_NOTE}")
    schema, own = note.get("schema_version", 1), table_schemas.SCHEMA_VERSION
    if schema != own:
        raise ValueError(f"output: must hold tables of schema {own}, got {schema} in {output!r}")


def _hold(output: str, asked: dict[str, Any], there: dict[str, Any]) -> None:
    for name, value in asked.items():
        if there.get(name, value) != value:
            raise ValueError(
                f"{name}: must be {_said(there[name])} as in the windows that {output!r} holds, got {_said(value)}"
            )


def _said(value: Any) -> str:
    if isinstance(value, list):
        kind, size, period = value
        return {"fixed": f"{size:g}s", "sliding": f"{size:g}s/{period:g}s"}.get(kind, f"global/{period:g}s")
    return "none" if value is None else str(value)
