"""`python -m beam_coresets.pipelines.demos batch` or `stream`, as `make demo` and `make demo-stream` call them."""
import importlib
import sys

from beam_coresets.pipelines.running import ending, logs

DEMOS = ("batch", "stream")


def main() -> int:
    """Runs the demonstration that the command line names; returns the exit code."""
    name, args = sys.argv[1:2], sys.argv[2:]
    if not name or name[0] not in DEMOS:
        print(f"error: demo: must be one of {', '.join(DEMOS)}, got {' '.join(name) or 'none'}", file=sys.stderr)
        return 2
    logs.ours_alone()  # before Beam is imported, which says then what it has not found
    code: int = importlib.import_module(f"beam_coresets.pipelines.demos.{name[0]}").main(args)
    return code


if __name__ == "__main__":
    ending.run_and_leave(main)
