"""Tables that were written: their files, and their rows."""
from collections.abc import Iterator

import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets import table_schemas, tables
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.transforms.writing.atomic_files import read
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.compacted_days import decoded


def files_of(folder: str, name: str, ending: str = "") -> list[str]:
    """The files of one table under an output folder, those in folders of days too, in the order of their windows.

    Raises:
      ValueError: the folder's name looks like a glob: Beam has no way to quote it.
    """
    if set("*?[") & set(folder):
        raise ValueError(f"output: must not have *, ? or [ in its name, got {folder!r}")
    pattern = FileSystems.join(folder, name, f"**{ending}")
    return sorted((found.path for found in FileSystems.match([pattern])[0].metadata_list), key=place_of)


def tables_of(folder: str, name: str, option: str = "input") -> Iterator[pa.Table]:
    """The rows of one table under an output folder, of whichever formats, file by file in the order of their windows.

    The rows of a window come together; a compacted file comes in several tables, of a few windows each.

    Where the folder has claims, each file is held against the digest in its own. Known columns have the table's types.
    `option` is what names the folder, for messages.

    Raises:
      ValueError: there is no such table, or a file that is not what was written.
    """
    found = [(path, form) for form in tables.TABLE_FORMATS for path in files_of(folder, name, f".{form}")]
    if not found:
        where = f"{name}/*.avro, *.parquet or *.jsonl"
        raise ValueError(f"{option}: must hold a {name} table, got {folder!r} without {where}")
    claims = Claims.of(folder) if name in table_schemas.ALL_TABLES else None
    for path, form in sorted(found, key=lambda each: place_of(each[0])):
        parts = iter([decoded(read(path), form, path, name)]) if claims is None else claims.rows_of(path, name)
        yield from (table_schemas.typed(table, name) for table in parts)


def read_table(folder: str, name: str, option: str = "input") -> pa.Table:
    """All of `tables_of` as one table.

    Raises:
      ValueError: there is no such table, or a file that is not what was written.
    """
    return pa.concat_tables(tables_of(folder, name, option), promote_options="permissive")
