"""An output folder -> one page that shows it, for anybody with a browser."""
import contextlib
import dataclasses
import os
import pathlib
import secrets
from collections.abc import Sequence

from beam_coresets.declared import check_values, declare
from beam_coresets.pipelines.console import options, show
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions
from beam_coresets.pipelines.results_folder.stored import on_newest_day, seconds_or_time_of_day
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.views.contents import contents_at, packed
from beam_coresets.pipelines.views.history import MOST_WINDOWS
from beam_coresets.pipelines.views.newest import Asked
from beam_coresets.pipelines.views.page import page

_EPILOG = (
    "beam-coresets report OUT writes OUT/report.html, one file that loads nothing from anywhere. OUT is an output "
    "folder of summarize, stream or rollup, or that of solve, also for a range of k."
)


@dataclasses.dataclass(frozen=True)
class ShownOptions(TerminalOptions):
    """What a page shows."""

    input: str = declare(None, "the output folder that is shown")
    windows: int = declare(MOST_WINDOWS, "decisions that are shown, the newest", least=1)
    x: str | None = declare(
        None, "the column that points are drawn across by (default: longitude, or principal axis 1)"
    )
    y: str | None = declare(None, "the column that points are drawn up by (default: latitude, or a principal axis)")
    key: str | None = declare(None, "the key that is shown first (default: the heaviest)")

    @property
    def asked(self) -> Asked:
        """What is shown at first."""
        return Asked(self.x, self.y, self.key)


@dataclasses.dataclass(frozen=True)
class ReportOptions(ShownOptions):
    """The options of `report`."""

    output: str | None = declare(None, "where the page goes (default: report.html in the folder)")
    start: float | None = declare(
        None, "only windows from here on (15:12 is of the newest window's day, UTC)", spelled="from", metavar="TIME",
        read=seconds_or_time_of_day,
    )  # fmt: skip
    end: float | None = declare(
        None, "only windows up to here", spelled="to", metavar="TIME", read=seconds_or_time_of_day
    )


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets report OUT`; returns the exit code."""
    words = ["--output" if word == "-o" else word for word in options.with_folder(argv)]
    return options.run_alone(words, "report", ReportOptions, __doc__ or "", run, _EPILOG)


def run(known: ReportOptions, console: Terminal) -> int:
    """Writes the page; returns the exit code.

    Raises:
      ValueError: a folder without summaries, an axis or a key that is none.
    """
    options.require(known, "input")
    check_values(known, ReportOptions)
    known, said = on_newest_day(known, ("start", "end"), known.input)
    show.notes(said, console)
    contents = contents_at(known.input, known.windows, known.start, known.end, known.asked)
    path = pathlib.Path(known.output or os.path.join(known.input, "report.html"))
    if known.output is None and "://" in known.input:
        raise ValueError(f"output: must be given where the input is not on this machine, got {known.input!r} alone")
    write(path, page(packed(contents), f"{known.input}: beam-coresets"))
    console.print(f"Page: {escape(str(path))}", highlight=False, soft_wrap=True)
    console.answer("report", input=known.input, page=str(path))
    return 0


def write(path: pathlib.Path, text: str) -> None:
    """The whole file or nothing, in place of what was there.

    Raises:
      ValueError: it can't be written there.
    """
    if not path.name:
        raise ValueError(f"output: must be a file that can be written, got {str(path)!r} (a folder)")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ValueError(f"output: must be a file that can be written, got {str(path)!r} ({error.strerror})") from None


if __name__ == "__main__":
    ending.run_and_leave(main)
