"""An output folder -> its files in Iceberg tables, each once; again after more windows have been decided."""
import dataclasses
import sys
from collections.abc import Sequence

from beam_coresets.declared import declare
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions
from beam_coresets.pipelines.results_folder.ownership import reading
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.launch import JobError
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.transforms.iceberg.catalogs import CatalogError, catalog_settings
from beam_coresets.transforms.iceberg.register_windows import refusals
from beam_coresets.transforms.iceberg.registering import register, require_prefix
from beam_coresets.transforms.writing.claims import Claims


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets register OUT --catalog CATALOG --table NAMESPACE.NAME`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-"):
        words = ["--input", *words]
    return options.run_alone(words, "register", RegisterOptions, __doc__ or "", run)


@dataclasses.dataclass(frozen=True)
class RegisterOptions(TerminalOptions):
    """The options of `register`."""

    input: tuple[str, ...] = declare(
        None, "output folders with Parquet tables; --input may be left out before them", several=True
    )
    catalog: tuple[str, ...] = declare(
        None, "of ~/.pyiceberg.yaml, a URI, a .json file of pyiceberg's properties, or NAME=VALUE ...", several=True
    )
    table: str | None = declare(
        None, "NAMESPACE.NAME: the tables are NAMESPACE.NAME_summaries, NAMESPACE.NAME_centers, ..."
    )


def run(known: RegisterOptions, console: Terminal) -> int:
    """Adds and tells; returns the exit code.

    Raises:
      ValueError: something that can't work, or a window that the tables can't take; the others are there.
      JobError: the catalog does not answer.
    """
    options.require(known, "input", "catalog", "table")
    assert known.table is not None
    prefix = require_prefix(known.table)
    settings = catalog_settings(known.catalog)
    refused, told = [], []
    for folder in known.input:
        claims = Claims.of(folder)
        if claims is None:
            raise ValueError(f"input: must hold windows that are decided, got {folder!r} without .claims")
        try:
            with reading([folder]):
                done = register(claims, settings, prefix)
        except CatalogError as error:
            raise JobError(str(error)) from error
        console.print(
            f"{escape(folder)}: {done.windows} windows ({done.files} files) added to {escape(prefix)}_..., "
            f"{done.before} were there", highlight=False, soft_wrap=True,
        )  # fmt: skip
        told.append({"folder": folder, "windows": done.windows, "files": done.files, "before": done.before})
        refused += [refusals(done)] if done.refused else []
    if refused:
        raise ValueError("; ".join(refused))
    console.answer("register", table=prefix, folders=told)
    return 0


if __name__ == "__main__":
    ending.run_and_leave(main)
