"""A page that follows an output folder while a stream writes, with metrics for Prometheus."""
import dataclasses
import re
from collections.abc import Sequence

from beam_coresets.declared import check_values, declare
from beam_coresets.pipelines.console import options
from beam_coresets.pipelines.console.terminal import Terminal
from beam_coresets.pipelines.running import ending
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.pipelines.views.report import ShownOptions
from beam_coresets.pipelines.views.server import LiveFolder, LiveServer

_EPILOG = (
    "beam-coresets watch OUT serves the page at http://127.0.0.1:8080/, /metrics for Prometheus, /api/latest (JSON) "
    "and /healthz, until Ctrl-C. The folder need not be there yet. For others than this machine: --host and --token."
)


@dataclasses.dataclass(frozen=True)
class WatchOptions(ShownOptions):
    """The options of `watch`."""

    port: int = declare(8080, "where the page is served; 0 for any free port", least=0)
    host: str = declare("127.0.0.1", "the address that it is served at")
    token: str | None = declare(None, "that has to be given, as ?token= or as a bearer; needed beyond this machine")


def main(argv: Sequence[str] | None = None) -> int:
    """`beam-coresets watch OUT`; returns the exit code."""
    return options.run_alone(options.with_folder(argv), "watch", WatchOptions, __doc__ or "", run, _EPILOG)


def run(known: WatchOptions, console: Terminal) -> int:
    """Serves the page until it is stopped; returns the exit code.

    Raises:
      ValueError: an address that can't be had, or a token that is needed.
    """
    options.require(known, "input")
    check_values(known, WatchOptions)
    if known.token is not None and not re.fullmatch(r"[A-Za-z0-9._~-]{8,}", known.token):
        raise ValueError("token: must be 8 letters, digits, or . _ ~ - or more, got another")
    folder = LiveFolder(known.input, known.windows, known.asked)
    with LiveServer(folder, known.host, known.port, known.token) as server:
        folder.look()
        folder.start()
        console.print(f"Page: {escape(server.address)}   (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        console.answer("watch", input=known.input, page=server.address)
        if folder.problem:
            console.print(escape(folder.problem), highlight=False, soft_wrap=True)
        try:
            server.serve_forever(0.2)
        except KeyboardInterrupt:
            pass
        finally:
            folder.stop()
    return 0


if __name__ == "__main__":
    ending.run_and_leave(main)
