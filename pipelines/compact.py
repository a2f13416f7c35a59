"""The days of a stream that are over -> one file a table for each, while the stream goes on and others read."""
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from beam_coresets.declared import Seconds, declare
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.terminal import Terminal, TerminalOptions
from beam_coresets.pipelines.results_folder.stored import require_folder
from beam_coresets.pipelines.results_folder.stream_folder import require_stream
from beam_coresets.pipelines.running import ending, launch
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.transforms.writing.claims import Claims
from beam_coresets.transforms.writing.compaction import PERIODS, BusyError, Compaction

_EPILOG = (
    "beam-coresets compact OUT, as often as you like. Exit codes: 0 done, or nothing to do; 1 failed (another one "
    "compacts OUT); 2 asked for something that can't work."
)


@dataclasses.dataclass(frozen=True)
class CompactOptions(TerminalOptions):
    """The options of `compact`."""

    output: str = declare(None, "the stream's folder, on a filesystem of this machine")
    every: str = declare("day", "one file a table for each", choices=tuple(PERIODS))
    after: Seconds = declare(3600.0, "a period is over so long after its end", least=0)
    keep: Seconds = declare(600.0, "what was there before stays in .compacted so long, for who is reading", least=0)


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets compact OUT`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-"):
        words[0] = f"--output={words[0]}"
    return options.run_alone(words, "compact", CompactOptions, __doc__ or "", run, _EPILOG)


def run(known: CompactOptions, console: Terminal) -> int:
    """Compacts and shows; returns the exit code.

    Raises:
      ValueError: something that can't work. JobError: another one is at work.
    """
    options.require(known, "output")
    require_folder(known.output)
    require_stream(known.output)
    compaction = Compaction(Claims(known.output, wanted=()), known.every, known.after, known.keep)
    found: list[dict[str, Any]] = []
    try:
        for done in compaction.run():
            now, was = done.files
            found.append({"period": done.day, "windows": done.windows, "files": now, "files_before": was,
                          "damaged": list(done.damaged)})  # fmt: skip
            console.print(f"{done.day}: {done.windows:,} windows, {was:,} files are {now:,}", highlight=False)
            for text in done.damaged:
                console.print(f"[yellow]left as it is:[/] {escape(text)}", highlight=False, soft_wrap=True)
    except BusyError as error:
        raise launch.JobError(str(error)) from None
    if not found:
        console.print(f"{escape(known.output)}: nothing to compact", highlight=False, soft_wrap=True)
    console.answer("compact", output=known.output, periods=found)
    return 0


if __name__ == "__main__":
    ending.run_and_leave(main)
