"""Adding claimed files to Iceberg tables, each file once, whoever else does so at the same time.

A commit holds only if nobody has committed since the table was looked at: the catalog compares and swaps. So whoever is
overtaken looks again, and finds what the other has added: by the notes beside the claims, by the properties of the
table's snapshots, and by the paths that the table has.
"""
import io
import json
import os
import random
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from beam_coresets.transforms.iceberg.catalogs import CatalogError, CatalogSettings, RefusalError
from beam_coresets.transforms.iceberg.notes import Notes
from beam_coresets.transforms.writing import atomic_files
from beam_coresets.transforms.writing.claims import FULL_ORDER, Claims

BATCH = 100  # windows of one commit
WINDOWS, OUTPUT = "beam-coresets.windows", "beam-coresets.output"  # properties of a snapshot
PROPERTIES = {  # of a table that is made here
    "gc.enabled": "false",  # the files are the output folder's: no maintenance removes them
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
}
_TRIES = 20


class Registered(NamedTuple):
    """What has been added.

    Attributes:
      windows, files: how many. Files without rows are not added.
      before: windows that were there already.
      refused: window -> why the tables can't take it.
    """

    windows: int
    files: int
    before: int
    refused: dict[str, str]


class _File(NamedTuple):
    """A claimed file: of which window, its digest, where it is (a URI), its columns, its rows."""

    window: str
    digest: str
    uri: str
    schema: pa.Schema
    rows: int


def require_prefix(prefix: str, option: str = "table") -> str:
    """Checks a table's name, NAMESPACE.NAME; `option` is what it is called, for messages.

    Raises:
      ValueError: it is none.
    """
    if not re.fullmatch(r"\w[\w-]*(?:\.\w[\w-]*)+", prefix):
        raise ValueError(f"{option}: must be NAMESPACE.NAME, got {prefix!r}")
    return prefix


def register(claims: Claims, settings: CatalogSettings, prefix: str, look: bool = True) -> Registered:
    """Adds the files of claimed windows that are not there yet to the Iceberg tables PREFIX_summaries, PREFIX_centers,
    PREFIX_coreset, ..., which are made if need be.

    In the order of the claims, so whoever sees a window in PREFIX_summaries finds all of its other rows.

    Args:
      claims: of the output folder. settings: of the catalog. prefix: NAMESPACE.NAME.
      look: also at the paths that the tables have, which takes as long as they have files; needed once, where notes
        may be missing of snapshots that are forgotten.

    Raises:
      ValueError: the folder's files are not Parquet of today's schema, or other files were registered for a window.
      CatalogError: the catalog does not answer.
      OSError: the folder can't be read.
    """
    names = claims.claimed_since(())
    if not names:
        return Registered(0, 0, 0, {})
    if days := claims.compacted.days():
        raise ValueError(f"output: must have no compacted days for Iceberg, got {days[0]!r} in {claims.output!r}")
    catalog, output = settings.open(), _uri(claims.output)
    tables = {name: _IcebergTable(catalog, settings, f"{require_prefix(prefix)}_{name}", claims.output, output, look)
              for name in FULL_ORDER}  # fmt: skip
    noted = tables["summaries"].noted()
    missing = [name for name in names if name not in noted]
    done, files = 0, 0
    refused: dict[str, str] = {}
    for start in range(0, len(missing), BATCH):
        batch = {name: _files_of(claims, name) for name in missing[start : start + BATCH]}
        for table in FULL_ORDER:
            mine = [found[table] for name, found in batch.items() if table in found and name not in refused]
            added, not_taken = tables[table].add(mine)
            files += added
            refused |= not_taken
        done += sum(name not in refused for name in batch)
    return Registered(done, files, len(names) - len(missing), refused)


class _IcebergTable:
    """One Iceberg table: what of a folder's is in it, and adding more."""

    def __init__(
        self, catalog: Any, settings: CatalogSettings, name: str, folder: str, output: str, look: bool
    ) -> None:
        self._catalog, self._settings, self._name = catalog, settings, name
        self._folder, self._output = folder, output
        self._paths: set[str] | None = None if look else set()

    def noted(self) -> dict[str, str]:
        """The windows that are noted as added; none if there is no such table."""
        table = self._loaded()
        return {} if table is None else self._notes(table).read()

    def add(self, files: Sequence[_File]) -> tuple[int, dict[str, str]]:
        """Adds those that are not there, in one commit, or one each where some can't be added.

        Returns:
          How many, and of those that the table can't take the window and the reason.
        """
        if not files:
            return 0, {}
        for _ in range(_TRIES):
            try:
                table = self._loaded()
                if table is None:
                    table = self._made(files[0].schema)
                notes, there = self._notes(table), self._there(table)
                self._require_same(files, there)
                new = [file for file in files if file.window not in there and file.uri not in (self._paths or ())]
                added = self._committed(table, [file for file in new if file.rows])
            except RefusalError as error:
                if len(files) > 1:
                    return self._one_by_one(files)
                return 0, {files[0].window: str(error)}
            if added is not None:
                notes.add({file.window: file.digest for file in files})
                return added, {}
            time.sleep(random.uniform(0.0, 0.2))
        raise CatalogError(f"catalog: must take a commit, got {self._name!r} changed by others {_TRIES} times")

    def _one_by_one(self, files: Sequence[_File]) -> tuple[int, dict[str, str]]:
        each = [self.add([file]) for file in files]
        return sum(added for added, _ in each), {name: why for _, refused in each for name, why in refused.items()}

    def _loaded(self) -> Any:
        from pyiceberg.exceptions import NoSuchTableError

        with self._settings.asked():
            try:
                return self._catalog.load_table(self._name)
            except NoSuchTableError:  # some catalogs say so of a namespace that is not there, too
                return None

    def _made(self, schema: pa.Schema) -> Any:
        """The table, new.

        Raises:
          RefusalError: Iceberg has no such columns.
        """
        from pyiceberg.exceptions import NoSuchNamespaceError, TableAlreadyExistsError

        def make() -> Any:
            return self._catalog.create_table(self._name, schema=_plain(schema), properties=PROPERTIES)

        with self._settings.asked():
            try:
                try:
                    return make()
                except NoSuchNamespaceError:
                    self._make_namespace()
                    return make()
            except TableAlreadyExistsError:
                return self._catalog.load_table(self._name)
            except (ValueError, TypeError) as error:
                raise RefusalError(f"{self._name}: must have columns that Iceberg has, got {_told(error)}") from None

    def _make_namespace(self) -> None:
        """Makes it unless somebody else just does, which catalogs say in many ways."""
        from pyiceberg.exceptions import NoSuchNamespaceError

        namespace = self._name.rpartition(".")[0]
        try:
            self._catalog.create_namespace_if_not_exists(namespace)
        except Exception as error:
            try:
                self._catalog.load_namespace_properties(namespace)
            except NoSuchNamespaceError:
                raise error from None

    def _notes(self, table: Any) -> Notes:
        return Notes(self._folder, str(table.metadata.table_uuid), self._name)

    def _there(self, table: Any) -> dict[str, str]:
        """Window -> digest of what the table has of this folder, as notes and snapshots say; paths are read once."""
        found = self._notes(table).read()
        for snapshot in table.metadata.snapshots:
            said = snapshot.summary.additional_properties if snapshot.summary else {}
            if said.get(OUTPUT) == self._output and WINDOWS in said:
                found |= json.loads(said[WINDOWS])
        if self._paths is None:
            with self._settings.asked():
                has = table.current_snapshot() is not None
                self._paths = set(table.inspect.files()["file_path"].to_pylist()) if has else set()
        return found

    def _require_same(self, files: Iterable[_File], there: dict[str, str]) -> None:
        for file in files:
            if there.get(file.window, file.digest) != file.digest:
                raise ValueError(
                    f"output: must hold the files that {self._name} has, got another one of {file.window!r} (register "
                    "it under another name)"
                )

    def _committed(self, table: Any, files: Sequence[_File]) -> int | None:
        """How many files the table has got; None if somebody else has committed meanwhile.

        Raises:
          RefusalError: it can't take one of them.
        """
        from pyiceberg.exceptions import CommitFailedException

        if not files:
            return 0
        # Of this object only: a commit that is tried again by the library would not look at what others have added.
        table.metadata.properties["commit.retry.num-retries"] = "0"
        windows = json.dumps({file.window: file.digest for file in files})
        with self._settings.asked():
            try:
                more = _unknown([_plain(file.schema) for file in files], table.schema().column_names)
                with table.transaction() as transaction:
                    for schema in more:
                        with transaction.update_schema() as update:
                            update.union_by_name(schema)
                    transaction.add_files(
                        [file.uri for file in files], {OUTPUT: self._output, WINDOWS: windows},
                        check_duplicate_files=False,
                    )  # fmt: skip
            except CommitFailedException:
                return None
            except (ValueError, TypeError) as error:
                raise RefusalError(f"{self._name}: must have the columns of the files, got {_told(error)}") from None
        return len(files)


def _files_of(claims: Claims, window: str) -> dict[str, _File]:
    """The claimed files of a window, by table.

    Raises:
      ValueError: they are not Parquet, of schema 1, or not what was written.
    """
    claim = claims.settled(window)
    if claim["form"] != "parquet":
        raise ValueError(f"format: must be parquet for Iceberg, got {claim['form']} in {claims.output!r}")
    found = {}
    for table, file in claim["files"].items():
        path = str(FileSystems.join(claims.output, *file["path"].split("/")))
        meta = pq.read_metadata(io.BytesIO(claims.read_file(path, table)))
        schema = meta.schema.to_arrow_schema()
        if b"schema_version" not in (schema.metadata or {}):
            raise ValueError(
                f"output: must be of schema 2 for Iceberg, got {path!r} of schema 1 (rollup writes it anew)"
            )
        found[table] = _File(window, file["digest"][:16], _uri(path), schema, meta.num_rows)
    return found


def _uri(path: str) -> str:
    """As Iceberg has paths: whole, with a scheme."""
    return path if atomic_files.scheme_of(path) else f"file://{os.path.abspath(path)}"


def _unknown(schemas: Sequence[pa.Schema], names: Iterable[str]) -> list[pa.Schema]:
    """Those that have other columns than these, each once."""
    known, found = set(names), []
    for schema in schemas:
        if not set(schema.names) <= known and schema not in found:
            found.append(schema)
    return found


def _plain(schema: pa.Schema) -> pa.Schema:
    """Without what Arrow knows of files beside the columns.

    Raises:
      TypeError: a column that Iceberg would take for another type.
    """
    for field in schema:
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        if kind in (pa.uint32(), pa.uint64()):
            raise TypeError(f"{field.name} of type {field.type}")
    return schema.remove_metadata()


def _told(error: BaseException) -> str:
    """What pyiceberg says of columns: of its tables the rows that are at fault."""
    lines = [line.strip(" │┃") for line in str(error).splitlines()]
    bad = [line for line in lines if line.startswith("❌")]
    return " ".join((bad or lines or [type(error).__name__])[0].replace("❌", "").replace("│", ":").split())
