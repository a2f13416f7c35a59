"""Pairs of runs of a command at the same time into one folder: whose result stands, and what the other says.

    python tests/trials/two_at_once.py [COMMAND ...] [--pairs 100] [--seed 0]

Each pair runs a command on two sets of data into one output folder, every other pair with --overwrite over a result
that was there. One whole result must stand, byte for byte what its command gives alone, with the traces of one run
beside it and no other file. The other run ends with exit code 1 or 2, says `error: output: must ...` in one line, and
shows no result. Both may end with 0 under --overwrite: then one ran after the other. Two streams must leave each
window once, with all of its points. `verify --csv` writes a file, no folder: one of the two files must stand, whole.
A line for each command; exit code 1 if a pair was bad.
"""
import argparse
import collections
import random
import shutil
import sys
import time

from writing_commands import BATCH, FILE, STREAM, Trials, scratch, standing


def pair(trials, command, whole, output, overwrite, delay, first):
    """Runs two at once; how it went, and what is wrong, "" if nothing."""
    more = ["--overwrite"] if overwrite and command in BATCH else []
    if overwrite:
        assert trials.run(command, first, output).wait() == 0
    runs = {first: trials.run(command, first, output, *more)}
    time.sleep(delay)
    runs[1 - first] = trials.run(command, 1 - first, output, *more)
    codes = [runs[i].wait() for i in range(2)]
    how = f"exit code {max(codes)}" if any(codes) else "one after the other"
    said = "".join(f"\n    {i} ended with {codes[i]}: {runs[i].err[-500:]!r}" for i in range(2))
    there = standing(command, output)
    if there not in whole:
        return how, f"no whole result stands{said}"
    if codes.count(0) == 0:
        return how, f"both failed{said}"
    if codes == [0, 0]:
        fine = more or command == FILE or (command == STREAM and any("already" in run.out for run in runs.values()))
        return how, "" if fine or (command == STREAM and overwrite) else f"both ended with 0{said}"
    loser = codes.index(max(codes))
    if command in BATCH and there != whole[1 - loser]:
        return how, f"the loser's result stands{said}"
    lines = runs[loser].err.splitlines()
    if codes[loser] not in (1, 2) or len(lines) != 1 or not lines[0].startswith("error: output: must "):
        return how, f"the loser does not say so{said}"
    return how, f"the loser shows a result{said}" if str(output) in runs[loser].out else ""


def tried(trials, command, pairs, rng):
    """Runs a command's pairs; prints what is wrong and a line of counts; the number of bad ones."""
    began = time.monotonic()
    whole = trials.undisturbed(command)
    took, counts, bad = (time.monotonic() - began) / len(whole), collections.Counter(), 0
    for number in range(pairs):
        output = trials.folder / "output"
        delay = took * rng.random() ** 3  # most of them near each other, some where the first one ends
        how, wrong = pair(trials, command, whole, output, number % 2 == 1, delay, rng.randrange(2))
        counts[how] += 1
        if left := [path.name for path in trials.temporary.iterdir()]:
            wrong = wrong or f"left in the temporary directory: {left}"
        if wrong:
            bad += 1
            print(f"  {command}, pair {number}, {how}: {wrong}", flush=True)
        for path in [*trials.folder.glob("output*"), *trials.temporary.iterdir()]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    told = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
    print(f"| {command} | {pairs} pairs | {told} | {bad} bad | {time.monotonic() - began:.0f} s |", flush=True)
    return bad


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked, known = parser.parse_args(argv), (*BATCH, STREAM, FILE)
    if unknown := set(asked.commands) - set(known):
        parser.error(f"COMMAND: must be of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    with scratch("two-at-once-") as folder:
        trials = Trials(folder)
        bad = [tried(trials, command, asked.pairs, random.Random(asked.seed)) for command in asked.commands or known]
    return int(any(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
