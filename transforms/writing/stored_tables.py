"""Tables that were written: their files, and their rows."""
from collections.abc import Iterator

import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets import table_schemas, tables
from beam_coresets.summaries.claim_records import place_of
from beam_coresets.transforms.writing.atomic_files import read
from beam_coresets.transforms.writing.claims import Claims


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
    """The files of one table under an output folder, of whichever formats, one by one in the order of their windows.

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
        data = read(path) if claims is None else claims.read_file(path, name)
        try:
            table = tables.decode(data, form)
        except Exception as error:  # whatever a decoder makes of what is not its own
            cause = (str(error).splitlines() or [""])[0]
            raise ValueError(f"{name}: must be a whole {form} file, got {path!r} ({cause})") from error
        yield table_schemas.typed(table, name)


def read_table(folder: str, name: str, option: str = "input") -> pa.Table:
    """All of `tables_of` as one table.

    Raises:
      ValueError: there is no such table, or a file that is not what was written.
    """
    return pa.concat_tables(tables_of(folder, name, option), promote_options="permissive")
