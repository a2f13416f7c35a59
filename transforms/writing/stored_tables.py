"""Tables that were written: their files, and their rows."""
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets import tables
from beam_coresets.transforms.writing.atomic_files import read
from beam_coresets.transforms.writing.claims import place_of


def files_of(folder: str, name: str, ending: str = "") -> list[str]:
    """The files of one table under an output folder, those in folders of days too, in the order of their windows.

    Raises:
      ValueError: the folder's name looks like a glob: Beam has no way to quote it.
    """
    if set("*?[") & set(folder):
        raise ValueError(f"output: must not have *, ? or [ in its name, got {folder!r}")
    pattern = FileSystems.join(folder, name, f"**{ending}")
    return sorted((found.path for found in FileSystems.match([pattern])[0].metadata_list), key=place_of)


def read_table(folder: str, name: str) -> pa.Table:
    """All files of one table under an output folder, of whichever formats, in the order of their windows.

    Known columns have the table's types.

    Raises:
      ValueError: there is no such table.
    """
    found = []
    for form in tables.TABLE_FORMATS:
        found += [(path, form) for path in files_of(folder, name, f".{form}")]
    if not found:
        raise ValueError(f"input: must hold a {name} table, got {folder!r} without {name}/*.avro, *.parquet or *.jsonl")
    parts = []
    for path, form in sorted(found, key=lambda each: place_of(each[0])):
        parts.append(tables.typed(tables.decode(read(path), form), name))
    return pa.concat_tables(parts, promote_options="permissive")
