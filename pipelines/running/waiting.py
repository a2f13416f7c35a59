"""What a command waits for: a moving bar on a terminal; elsewhere a line for each stage that takes long."""
import threading
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from beam_coresets.pipelines.running.texts import escape

PATIENCE = 10.0  # seconds; a stage that is over by then is not told where nothing moves
AGAIN = 30.0  # seconds between lines about one stage


def amount(n: float) -> str:
    """A number of points that reads well, small or large."""
    return f"{n / 1e6:,.1f} M" if n >= 1e6 else f"{n:,.0f}"


class Awaited:
    """Says what is waited for, between `__enter__` and `__exit__`.

    Args:
      console: where; standard error, as standard output is for answers.
      stage: what is waited for at first.
      total: of what `tell` counts; None where nothing is counted.
    """

    def __init__(self, console: Console, stage: str, total: int | None = None) -> None:
        self._console, self._stage, self._text = console, stage, stage
        self._over, self._changed = threading.Event(), threading.Event()
        self._bar = None
        if console.is_terminal and not console.quiet:
            bar = [BarColumn(20), TextColumn("{task.fields[done]}")] if total is not None else []
            columns = (SpinnerColumn(), TextColumn("{task.fields[shown]}"), *bar, TimeElapsedColumn())
            self._bar = Progress(
                *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._task = self._bar.add_task("", total=total, shown=escape(stage), done="")

    def __enter__(self) -> "Awaited":
        if self._bar is not None:
            self._bar.start()
        elif not self._console.quiet:
            threading.Thread(target=self._lines, daemon=True, name="waiting").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Says nothing more; as often as anybody likes."""
        self._over.set()
        self._changed.set()
        if self._bar is not None:
            self._bar.stop()

    def tell(self, stage: str, count: str = "", done: str = "", completed: int = 0) -> None:
        """What is waited for now.

        Args:
          count: how far that is, before the bar. done: the same behind it.
          completed: of the total.
        """
        if self._bar is not None:
            shown = f"{stage}   {count}" if count else stage
            fields: dict[str, Any] = {"shown": escape(shown), "done": escape(done), "completed": completed}
            self._bar.update(self._task, **fields)
            return
        self._text = "   ".join(part for part in (stage, count, done) if part)
        if stage != self._stage:
            self._stage = stage
            self._changed.set()

    def _lines(self) -> None:
        told = ""
        while not self._over.is_set():
            self._changed.clear()
            patience = PATIENCE
            while not self._changed.wait(patience):
                patience, text = AGAIN, self._text
                if text != told:
                    self._console.print(escape(text), highlight=False, soft_wrap=True)
                told = text
