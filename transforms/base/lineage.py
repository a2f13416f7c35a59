"""What a job reads and writes, told to Beam's `Lineage`, which runners show and catalogs take.

Names are those of Beam's own connectors: `kafka:SERVERS.TOPIC`, and what a filesystem calls its files and folders.
"""
import contextlib
from collections.abc import Sequence

from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import Lineage


def tell_read(name: Sequence[str]) -> None:
    """Reports what is read by the parts of its name, the system first; nothing where there are none."""
    if name:
        Lineage.sources().add(name[0], *map(Lineage.wrap_segment, name[1:]))


def tell_written(name: Sequence[str]) -> None:
    """The same for what is written."""
    if name:
        Lineage.sinks().add(name[0], *map(Lineage.wrap_segment, name[1:]))


def tell_folder_read(path: str) -> None:
    """Reports a folder that is read, where Beam has its filesystem; others' URLs are not told of."""
    with contextlib.suppress(ValueError):
        FileSystems.report_source_lineage(path)
