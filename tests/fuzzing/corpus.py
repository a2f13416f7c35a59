"""Inputs that fuzzing has found, kept as tests: a file for each target, an input a line.

    python tests/fuzzing/corpus.py                        # tries all of them
    python tests/fuzzing/corpus.py --keep TARGET FOLDER   # adds what FOLDER holds and reaches something new

Of the inputs that reach the same lines in the same order of two, or end in the same error, the shortest is kept, and of
those so many as fit into MOST_BYTES.
"""
import base64
import contextlib
import pathlib
import re
import sys
import zlib

from fuzz import stop_after_a_second, tried, tried_in_room
from targets import TARGETS

FOLDER = pathlib.Path(__file__).parent / "corpus"
MOST_BYTES = 9_000  # of a file


def inputs_of(target):
    """The inputs that are kept for a target."""
    path = FOLDER / f"{target}.txt"
    lines = path.read_text().split() if path.exists() else []
    return [zlib.decompress(base64.b85decode(line)) for line in lines]


def line_of(data):
    return base64.b85encode(zlib.compress(data, 9)).decode()


def reached(run, data):
    """Pairs of lines of this package that follow each other, and the error without its numbers and names."""
    found = set()

    def local(frame, event, _):
        if event == "line":
            found.add((frame.f_code, last.get(frame.f_code), frame.f_lineno))
            last[frame.f_code] = frame.f_lineno
        return local

    last = {}
    sys.settrace(lambda frame, event, _: local if "beam_coresets" in frame.f_code.co_filename else None)
    try:
        run(data)
    except Exception as error:
        found.add((type(error), re.sub(r"'[^']*'|[^a-z ]+", "", str(error).lower())[-60:]))
    finally:
        sys.settrace(None)
    return found


def smallest(target, inputs):
    """Of some inputs the shortest that reach all that they reach together, beyond the target's own first inputs."""
    run, seeds = TARGETS[target]
    seen, kept, room = set(), [], MOST_BYTES
    for data in seeds:
        seen |= reached(run, data)
    for data in sorted(set(inputs), key=lambda data: (len(line_of(data)), data)):
        new = reached(run, data) - seen
        if new and len(line_of(data)) < room:
            seen |= new
            kept.append(data)
            room -= len(line_of(data)) + 1
    return kept


def keep(target, folder):
    """Adds what a folder holds."""
    found = [path.read_bytes() for path in pathlib.Path(folder).iterdir() if path.is_file()]
    kept = smallest(target, [*inputs_of(target), *found])
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{target}.txt").write_text("".join(line_of(data) + "\n" for data in kept))
    print(f"{target}: {len(kept)} of {len(found)} inputs kept")


def main():
    """Prints what is wrong; returns the exit code."""
    if sys.argv[1:2] == ["--keep"]:
        keep(*sys.argv[2:])
        return 0
    stop_after_a_second()
    wrong = count = 0
    for target, (run, seeds) in TARGETS.items():
        inputs = inputs_of(target)
        for data in [*seeds, *inputs]:
            with contextlib.suppress(Exception):
                run(data)  # kernels compile in the first call
        for data in inputs:
            count += 1
            if said := tried_in_room(run, data):
                wrong += 1
                print(f"{target}: {said[:300]}: {data[:500].hex()}")
        wrong += sum(bool(tried(run, data)) for data in seeds)
    print(f"{count} inputs of {len(TARGETS)} targets, {wrong} findings")
    return int(bool(wrong) or not count)


if __name__ == "__main__":
    sys.exit(main())
