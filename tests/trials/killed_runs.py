"""Runs of batch commands, each killed at a random moment and run again: what is then in its folder.

    python tests/trials/killed_runs.py [COMMAND ...] [--runs 100] [--seed 0]

The commands take turns, every other time with --overwrite over an older result. A run is killed (SIGKILL) at any time
of its life, or just when it takes the folder, begins to write there, or puts its files into their places. After some of
the kills the folder is read: there must be the old result or the new one, whole. Then the same words run again: the new
result must stand, byte for byte what the command gives alone, with the traces of one run beside it; the temporary
directory is empty. Between the two only what docs/output.md and docs/operations.md name may be left. A second run is
refused where the first one, without --overwrite, had come to its end.
A line for each command; exit code 1 if a run was bad.
"""
import argparse
import collections
import contextlib
import random
import re
import shutil
import sys
import time

from writing_commands import BATCH, Trials, files_in, hidden, result_in, scratch, standing

from beam_coresets.pipelines.results_folder.ownership import reading

MARKS = (".owner", ".staging/", ".end")  # what a folder shows when a run has taken it, writes there, has decided to end
DOCUMENTED = re.compile(r"(k=\d+/)?\.claims/(run-\d+\.(owner|end|beat)|[^/]*\.tmp|global-r1\.json)|\.staging/run-.*")
MOMENT = 0.03  # seconds


def kill(run, output, took, rng):
    """Kills a run at a random moment; whether it still went on."""
    if rng.random() < 0.5:
        time.sleep(1.1 * took * rng.random())
    else:
        mark, before = rng.choice(MARKS), set(files_in(output))
        while not run.over and not any(mark in name for name in set(files_in(output)) - before):
            time.sleep(0.001)
        time.sleep(MOMENT * rng.random())
    run.kill()
    return run.wait() < 0


def trial(trials, command, whole, took, overwrite, rng):
    """Kills a run and repeats it; how it went, and what is wrong, "" if nothing."""
    output = trials.folder / "output"
    if overwrite:
        shutil.copytree(trials.folder / f"{command}-0", output)
    more = ["--overwrite"] if overwrite else []
    killed = kill(trials.run(command, 1, output, *more), output, took, rng)
    how = "killed" if killed else "had ended"
    if odd := [name for name in files_in(output) if hidden(name) and not DOCUMENTED.fullmatch(name)]:
        return how, f"not documented: {odd}"
    if odd := [path.name for path in trials.temporary.iterdir() if not path.name.startswith("beam-coresets-run-")]:
        return how, f"not documented, in the temporary directory: {odd}"
    if rng.random() < 0.5:
        with contextlib.nullcontext() if not output.exists() else reading([str(output)]):
            there = result_in(output)
        if there not in ([result for result, _ in whole] if overwrite else [{}, whole[1][0]]):
            return how, f"neither the old nor the new result: {files_in(output)}"
    there = result_in(output)
    again = trials.run(command, 1, output, *more)
    code = again.wait()
    was_there = there == whole[1][0] and not overwrite
    if code and not (was_there and code == 2 and "must not hold another run's result" in again.err):
        return how, f"run again it ends with {code}: {again.err[-500:]}"
    if standing(command, output) != whole[1]:
        return how, f"run again it leaves {files_in(output)}"
    if left := [path.name for path in trials.temporary.iterdir()]:
        return how, f"left in the temporary directory: {left}"
    return f"{how}, {'was there' if code else 'run again'}", ""


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="default: " + ", ".join(BATCH))
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    commands, failed = asked.commands or BATCH, 0
    with scratch("killed-runs-") as folder:
        trials = Trials(folder)
        for place, command in enumerate(commands):
            rng, counts, began = random.Random(f"{asked.seed} {command}"), collections.Counter(), time.monotonic()
            whole = trials.undisturbed(command)
            took, bad = (time.monotonic() - began) / len(whole), 0
            runs = len(range(place, asked.runs, len(commands)))
            for number in range(runs):
                how, wrong = trial(trials, command, whole, took, number % 2 == 0, rng)
                counts[how] += 1
                if wrong:
                    bad += 1
                    print(f"  {command}, run {number}, {how}: {wrong}", flush=True)
                for path in [*folder.glob("output*"), *trials.temporary.iterdir()]:
                    shutil.rmtree(path)
            told = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
            print(f"| {command} | {runs} runs | {told} | {bad} bad | {time.monotonic() - began:.0f} s |", flush=True)
            failed += bad
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
