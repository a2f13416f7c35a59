"""Feeds mutated inputs to decoders: `python tests/fuzzing/fuzz.py [TARGET ...] [--inputs N]`; without any, lists them.

An input may end in a ValueError. Anything else, a second of CPU time, a signal, or more memory than ten times the
input and 64 MB is a finding: the input is printed as hexadecimal, and the exit code is 1. `guided.py` lets coverage
choose the mutations.
"""
import argparse
import mmap
import os
import random
import re
import resource
import signal
import sys
import time

from targets import TARGETS

from beam_coresets import bounded

LARGEST = 1 << 16
NUMBERS = (0, 1, -1, 127, 128, 255, 256, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1)


def mutated(seeds, rng):
    """One of the seeds with one to five changes: bits, sizes, pieces, numbers written out."""
    data = bytearray(rng.choice(seeds))
    for _ in range(1 + rng.randrange(5)):
        if not data:
            break
        at, size, kind = rng.randrange(len(data)), 1 + rng.randrange(16), rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            width = rng.choice((2, 4, 8))
            data[at : at + width] = (rng.choice(NUMBERS) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        elif kind == 3:
            data[at : at + 1] = bounded._long(rng.choice(NUMBERS))
        elif kind == 4:
            del data[at : at + size * rng.randrange(20)]
        elif kind == 5:
            data[at:at] = data[at : at + size] * rng.randrange(1, 40)
        elif kind == 6:
            other = rng.choice(seeds)
            low = rng.randrange(len(other))
            data[at : at + size] = other[low : low + size]
        elif kind == 7:
            digits = [found.span() for found in re.finditer(rb"-?\d+", data[:4096])]
            if digits:
                low, high = rng.choice(digits)
                data[low:high] = rng.choice((b"1e400", b"null", b"[]", b"{}", b'""', str(rng.choice(NUMBERS)).encode()))
        else:
            data[at:] = rng.randbytes(rng.randrange(9))
    return bytes(data[:LARGEST])


class Slow(BaseException):
    """A second of CPU time is over."""


def stop_after_a_second():
    """Lets `tried` end what takes a second of CPU time."""

    def stop(*_):
        raise Slow

    signal.signal(signal.SIGPROF, stop)


def tried(run, data):
    """What is wrong with the way in which `run` takes the input; empty: nothing."""
    try:
        signal.setitimer(signal.ITIMER_PROF, 1.0)
        run(data)
    except ValueError:
        pass
    except BaseException as error:  # every other one is a finding
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


def room(size):
    """The most address space that this process may have while it reads an input of that size."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * mmap.PAGESIZE + (64 << 20) + 10 * size


def tried_in_room(run, data):
    """As `tried`, with no more memory than ten times this input and 64 MB beside what there is."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (room(len(data)), hard))
    try:
        return tried(run, data)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def some(name, seed, first, last, shared, report):
    """In a process of its own: the inputs from `first` on; the one that is tried stands in `shared`."""
    run, seeds = TARGETS[name]

    stop_after_a_second()
    for one in seeds:
        assert not tried(run, one), tried(run, one)
    most = room(LARGEST)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for i in range(first, last):
        data = mutated(seeds, random.Random(f"{seed}/{i}"))
        shared[:16] = i.to_bytes(8, "little") + len(data).to_bytes(8, "little")
        shared[16 : 16 + len(data)] = data
        if said := tried(run, data):
            os.write(report, f"{name} {i} {said[:200]} {data[:1000].hex()}\n".encode())
        if i % 50_000 == 49_999:
            os.write(2, f"{name}: {i + 1:,} so far\n".encode())
    shared[:8] = last.to_bytes(8, "little")


def fuzz(name, inputs, seed):
    """The number of findings."""
    shared, found, at, began = mmap.mmap(-1, 16 + LARGEST), 0, 0, time.monotonic()
    while at < inputs:
        ours, theirs = os.pipe()
        shared[:16] = at.to_bytes(8, "little") + bytes(8)
        if not (child := os.fork()):
            try:
                some(name, seed, at, min(inputs, at + 50_000), shared, theirs)
            except BaseException as error:
                os.write(theirs, f"{name} harness {type(error).__name__}: {error}\n".encode())
                os._exit(3)
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as lines:
            for line in lines:
                found += 1
                print(line.strip()[:4000], flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        at = int.from_bytes(shared[:8], "little")
        if status == 3:
            return found
        if status:
            found += 1
            size = int.from_bytes(shared[8:16], "little")
            print(f"{name} {at} ended by signal {-status} {bytes(shared[16 : 16 + size]).hex()}", flush=True)
            at += 1
    print(f"{name}: {at:,} inputs, {found} findings, {time.monotonic() - began:.0f} s", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="*")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", default="0")
    known = parser.parse_args()
    if not known.target:
        print("\n".join(TARGETS))
        return 2
    return int(any([fuzz(name, known.inputs, known.seed) for name in known.target]))


if __name__ == "__main__":
    sys.exit(main())
