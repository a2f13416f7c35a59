"""RegisterWindows: a stream's claimed files in Iceberg tables, from one place and without holding the stream up."""
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from beam_coresets.transforms.base.lineage import tell_written
from beam_coresets.transforms.iceberg.catalogs import CatalogError, CatalogSettings
from beam_coresets.transforms.iceberg.registering import Registered, register, require_prefix
from beam_coresets.transforms.writing.claims import Claims

_LOG = logging.getLogger(__name__)
SECONDS = 60.0  # between commits
PATIENCE = 120.0  # seconds for a catalog that says nothing


class RegisterWindows(beam.PTransform):
    """Whatever tells that windows may have been decided -> how many files were added to the Iceberg tables, if any.

    What comes is not looked at: all claimed windows that are not in the tables are added, those of earlier runs too. So
    a catalog that is away costs nothing but a warning: what is missing is added with the next window. One key for all
    makes it one place; should a runner have two for a while, each file is still added once.

    Args:
      claims: where the decisions are (`WriteSummaries.claims`).
      settings: of the catalog. May hold passwords: they are never shown.
      prefix: NAMESPACE.NAME of the Iceberg tables, which are NAMESPACE.NAME_summaries and so on.
      seconds: for how long windows are gathered for a commit.
      clock: seconds since the epoch.

    Raises:
      ValueError: no name of a table, or files that are not Parquet.

    Source: a timer in processing time, and `beam_coresets.transforms.iceberg.registering.register`.

    Example (a stream without an end):
      write = WriteSummaries("out")
      written = (blocks | Summarize(k=4, shards=5)).decided | write
      settings = CatalogSettings("default", {"uri": "sqlite:///catalog.db", "warehouse": "file:///tmp/warehouse"})
      written.windows | RegisterWindows(write.claims, settings, "analytics.clusters")
    """

    def __init__(
        self,
        claims: Claims,
        settings: CatalogSettings,
        prefix: str,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        if claims.form != "parquet":
            raise ValueError(f"format: must be parquet for Iceberg, got {claims.form}")
        self._shown = {"catalog": settings.name, "table": prefix, "output": claims.output, "seconds": seconds}
        self._register = _Register(claims, settings, require_prefix(prefix), seconds, clock)

    def expand(self, windows: PCollection[Any]) -> PCollection[int]:
        return (
            windows
            | "Out of windows" >> beam.WindowInto(beam.window.GlobalWindows())
            | "One place" >> beam.Map(_to_one_place).with_output_types(tuple[str, bool])
            | "Register" >> beam.ParDo(self._register).with_output_types(int)
        )

    def display_data(self) -> dict[str, Any]:
        return self._shown


def _to_one_place(element: Any) -> tuple[str, bool]:
    return "", True


class _Register(beam.DoFn):
    WAITING = ReadModifyWriteStateSpec("waiting", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)

    def __init__(self, claims: Claims, settings: CatalogSettings, prefix: str, seconds: float, clock: Any) -> None:
        self._claims, self._settings, self._prefix = claims, settings, prefix
        self._seconds, self._clock = seconds, clock
        self._looked = False
        self._files = Metrics.counter("beam_coresets", "files_registered")
        self._failed = Metrics.counter("beam_coresets", "registrations_failed")

    def process(
        self,
        element: tuple[str, bool],
        waiting: Any = beam.DoFn.StateParam(WAITING),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> None:
        if not waiting.read():
            waiting.write(b"1")
            due.set(Timestamp.of(self._clock() + self._seconds))

    @on_timer(DUE)
    def on_due(self, waiting: Any = beam.DoFn.StateParam(WAITING)) -> Iterator[int]:
        waiting.clear()
        done, why = attempt(self._claims, self._settings, self._prefix, look=not self._looked)
        if why:
            self._failed.inc()
            _LOG.warning("iceberg: windows wait for the next attempt: %s", why)
        self._looked |= done is not None
        if done is not None and done.files:
            self._files.inc(done.files)
            for table in self._claims.wanted:
                tell_written(("iceberg", *f"{self._prefix}_{table}".split(".")))
            yield done.files


def attempt(
    claims: Claims, settings: CatalogSettings, prefix: str, look: bool = True, patience: float = PATIENCE
) -> tuple[Registered | None, str]:
    """`register`, but it never fails and takes no longer than some seconds: a thread that hangs is left behind.

    Returns:
      What was added, None where nothing could be; and why not all of it was, empty where it was.
    """
    found: list[Registered] = []
    failed: list[str] = []

    def work() -> None:
        try:
            found.append(register(claims, settings, prefix, look))
        except (ValueError, CatalogError) as error:
            failed.append(str(error))
        except Exception as error:  # of the output folder, and whatever comes: the stream goes on
            failed.append(f"{type(error).__name__}: {settings.said(error)}")

    thread = threading.Thread(target=work, daemon=True, name="iceberg")
    thread.start()
    thread.join(patience)
    if failed:
        return None, failed[0]
    if not found:
        return None, f"catalog: must answer, got nothing from {settings.name!r} for {patience:g} s"
    return found[0], refusals(found[0])


def refusals(done: Registered) -> str:
    """What windows were refused, in a line; empty where none were."""
    if not done.refused:
        return ""
    window, why = next(iter(done.refused.items()))
    more = f" and {len(done.refused) - 1} more windows" if len(done.refused) > 1 else ""
    return f"{why} in window {window!r}{more}"
