"""`beam-coresets WORD ...`: each word is a module of this folder with a `main(argv)`."""
import importlib
import sys
from collections.abc import Sequence

from beam_coresets import __version__
from beam_coresets.pipelines.running import ending, logs

WORDS = {
    "summarize": "files -> coreset, centers and certificate",
    "stream": "Kafka, files that keep coming, or generated points -> a summary for every window, on time",
    "plan": "shards and stragglers -> a scheme, its load and loss, and the latency it buys",
    "rollup": "the coresets of many windows or keys -> one for the whole period",
    "solve": "a coreset -> centers for another k, z or constraint, without the data",
    "compact": "the days of a stream that are over -> one file a table for each, while it goes on",
    "compare": "two windows, periods or folders -> what has changed, with error bars, and which rows are behind it",
    "assign": "rows and centers -> rows with their cluster and distance",
    "register": "an output folder -> its files in Iceberg tables",
    "show": "an output folder -> what the command that wrote it printed",
    "report": "an output folder -> one page that shows it, for anybody with a browser",
    "watch": "an output folder -> a page that follows it, and metrics for Prometheus",
    "verify": "coreset and data -> the measured distortion, against what the certificate promised",
}

IN_VIEWS = ("show", "report", "watch")  # modules of the folder views

MORE = {
    "completion": "bash, zsh, fish or tcsh -> a script that completes words and options there",
    "--version": "which this is",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one word; returns the exit code: 0 done, 1 failed, 2 asked for something that can't work."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args == ["--version"]:
        print(f"beam-coresets {__version__}")
        return 0
    if args[:1] == ["completion"]:
        return _completion(args[1:])
    if not args or args[0] in ("-h", "--help") or args[0] not in WORDS:
        asked_for_help = bool(args) and args[0] in ("-h", "--help")
        stream = sys.stdout if asked_for_help else sys.stderr
        if args and not asked_for_help:
            print(f"error: word: must be one of {', '.join(WORDS)}, got {args[0]!r}", file=stream)
        print("usage: beam-coresets WORD [options]    (beam-coresets WORD --help)\n", file=stream)
        for word, what in {**WORDS, **MORE}.items():
            print(f"  {word:<10} {what}", file=stream)
        return 0 if asked_for_help else 2
    if "--verbose" not in args:
        logs.ours_alone()
    if argv is None:
        ending.run_and_leave(lambda: _run(args))
    return _run(args)


def module_of(word: str) -> str:
    """The module of a word, from `pipelines` on."""
    return f"views.{word}" if word in IN_VIEWS else word


class _NoPandas:
    """Finds that there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Leaves all other modules to the finders behind it."""
        if name == "pandas":
            raise ModuleNotFoundError(f"import of {name} put off", name=name)


def _beam_without_pandas() -> None:
    """Imports Beam and Arrow as where pandas is not installed: their DataFrames, which no command has, cost each start
    0.35 s. Whoever imports pandas afterwards gets it, also Arrow's `to_pandas`."""
    if "pandas" in sys.modules or "apache_beam" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        importlib.import_module("apache_beam")
        importlib.import_module("pyarrow").array([0])  # Arrow looks for pandas once, with the first list
    finally:
        sys.meta_path.remove(_NoPandas)


def _run(args: Sequence[str]) -> int:
    _beam_without_pandas()
    code: int = importlib.import_module(f"beam_coresets.pipelines.{module_of(args[0])}").main(args[1:])
    return code


def _completion(args: Sequence[str]) -> int:
    """Prints a script with which a shell completes words and options."""
    from beam_coresets.pipelines.console.completion import SHELLS, script

    if len(args) != 1 or args[0] not in SHELLS:
        got = " ".join(args) or "nothing"
        print(f"error: completion: must be for one of {', '.join(SHELLS)}, got {got}", file=sys.stderr)
        return 2
    print(script(args[0], WORDS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
