"""Lets coverage choose the mutations: `python tests/fuzzing/guided.py TARGET FOLDER [--runs N] [--seconds S]`.

Needs atheris (`pip install atheris`), which instruments the Python of this package; what libraries in C do is seen by
what they raise alone. A run begins from the target's inputs, its corpus, and what FOLDER holds, and adds to FOLDER what
reaches something new. The bounds are those of `fuzz.py`; a finding ends it with the input in FOLDER.
"""
import argparse
import inspect
import os
import pathlib
import random
import sys

import atheris
from corpus import inputs_of
from fuzz import LARGEST, mutated, stop_after_a_second, tried_in_room
from targets import TARGETS


def functions():
    """The package's functions and methods, once; kernels are compiled, and are none."""
    found = {}
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] != "beam_coresets" or name == "beam_coresets._jit":
            continue
        for holder in (module, *(each for each in vars(module).values() if inspect.isclass(each))):
            if getattr(holder, "__module__", name).partition(".")[0] != "beam_coresets":
                continue
            for each in vars(holder).values():
                each = getattr(each, "__func__", getattr(each, "fget", None) or each)
                if inspect.isfunction(each) and each.__module__.startswith("beam_coresets"):
                    found[id(each.__code__)] = each
    return found.values()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=0)
    known = parser.parse_args()
    run, seeds = TARGETS[known.target]
    begin = [*seeds, *inputs_of(known.target)]
    known.folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(begin):
        assert not tried_first(run, data)
        (known.folder / f"begin-{i}").write_bytes(data)
    for each in functions():
        atheris.instrument_func(each)
    stop_after_a_second()

    def once(data):
        if said := tried_in_room(run, data):
            (known.folder / "finding").write_bytes(data)
            print(f"{known.target}: {said}: {data[:1000].hex()}", flush=True)
            os._exit(1)

    def other(data, most, seed):
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return atheris.Mutate(data, most)
        return mutated([data or b"\0", rng.choice(begin) or b"\0"], rng)[:most]

    arguments = [f"-runs={known.runs}", f"-max_len={LARGEST}", f"-artifact_prefix={known.folder}/signal-", "-seed=1",
                 "-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1"]  # fmt: skip
    if known.seconds:
        arguments.append(f"-max_total_time={known.seconds}")
    atheris.Setup([sys.argv[0], *arguments, str(known.folder)], once, custom_mutator=other)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    atheris.Fuzz()


def tried_first(run, data):
    """Once without bounds, as kernels compile."""
    try:
        run(data)
    except ValueError:
        return ""
    return ""


if __name__ == "__main__":
    main()
