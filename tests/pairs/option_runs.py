"""Commands run with any options on tiny data, each in a fork of this process, and what may be said of how they end."""
import math
import pathlib
import re
import resource
import shutil
import signal
import sys
from typing import NamedTuple

sys.path.append(str(pathlib.Path(__file__).parents[1]))  # where it is run as a script

import streams_in_process
import yaml_runs
from forks import Fork
from streaming_job import last_of_each

from beam_coresets.pipelines import assign, stream, summarize, verify
from beam_coresets.pipelines.main import main
from beam_coresets.pipelines.running import launch
from beam_coresets.transforms.writing.stored_tables import files_of, read_table

DONE, REFUSED, ACCEPTED = "done", "refused", "accepted"
_STOPPED = 76  # the exit code of a run that would have begun to work
_REFUSAL = re.compile(r"^error: (?P<names>[^:]+): .*\b(must|may)\b.*\bgot\b", re.S)
_TELLTALE = re.compile(r"Traceback|Warning\b|\b[nN]a[nN]\b")
_SECONDS, _MEMORY = 120, 4 << 30


class Ending(NamedTuple):
    """How a run ended.

    Attributes:
      kind: DONE, REFUSED, or what is wrong.
      code: of the exit; negative for a signal.
      text: the one line of a refusal, or all there was to see.
    """

    kind: str
    code: int
    text: str

    @property
    def names(self):
        """The options that a refusal names first."""
        found = _REFUSAL.match(self.text)
        return [] if found is None else [each.strip(" -").replace("-", "_") for each in found["names"].split(",")]


class _Accepted(BaseException):
    """All checks are done, and a job would be launched now."""


def run(words, folder, check=lambda: None, dry=False):
    """Runs a command; in the same process `check()` then says what is wrong with its results, if anything.

    Args:
      dry: stops where a job is launched (ACCEPTED): what is refused before is, at a tenth of the cost.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pathlib.Path(folder).mkdir(parents=True)
    fork = Fork(lambda: _run(last_of_each(words), folder, check, dry), folder)
    code = fork.wait(_SECONDS)
    wrong = pathlib.Path(folder, "wrong")
    return _judged(code, fork.out, fork.err, wrong.read_text() if wrong.exists() else "", "--verbose" in words)


def _run(words, folder, check, dry):
    if _MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (_in_use() + _MEMORY,) * 2)
    if words[0] == "stream":
        streams_in_process.install()
    if dry:
        summarize.build = launch.Job = assign.AssignJob.write = verify.combine_blocks = _refuse_to_run
        assign.AssignJob.survey = stream.SummarizeStream = _refuse_to_run
    try:
        code = yaml_runs.main(words[1:]) if words[0] == "yaml" else main(words)
    except _Accepted:
        return _STOPPED
    wrong = check() if code == 0 else ""
    if wrong:
        pathlib.Path(folder, "wrong").write_text(wrong)
    return code


def _refuse_to_run(*_):
    raise _Accepted


def _in_use():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _judged(code, out, err, wrong, verbose):
    both = f"{err}\n{out}".strip()
    if code == -signal.SIGALRM:
        return Ending("hangs", code, both)
    if code == _STOPPED:
        return Ending(ACCEPTED, code, out)
    if code == 0:
        if wrong:
            return Ending("wrong", code, wrong)
        if (err.strip() and not verbose) or _TELLTALE.search(out):
            return Ending("says", code, both)
        return Ending(DONE, code, out)
    lines = [line for line in err.splitlines() if line.strip()]
    if verbose:  # whole error reports are asked for; the line is the last
        both, lines = "\n".join(lines[-1:]), lines[-1:]
    if code not in (1, 2) or not lines or "Traceback" in both:
        return Ending("crash", code, both)
    if len(lines) > 1 or not _REFUSAL.match(lines[-1]) or "Error" in lines[-1]:
        return Ending("unclear", code, err)
    return Ending(REFUSED, code, lines[-1])


def tables_of(folder, names=("summaries", "centers", "coreset", "columns")):
    """Name -> rows of the tables there are."""
    return {name: read_table(str(folder), name).to_pylist() for name in names if files_of(str(folder), name)}


def not_a_number(tables):
    """Where a table holds NaN; "" if nowhere."""
    for name, rows in tables.items():
        for row in rows:
            for column, value in row.items():
                values = value if isinstance(value, list) else [value]
                if any(isinstance(each, float) and math.isnan(each) for each in values):
                    return f"{name}.{column} is NaN: { {k: v for k, v in row.items() if k != 'evidence'} }"
    return ""


def letters_in(folder):
    """Rows that were refused."""
    return len(read_table(str(folder), "dead_letters")) if files_of(str(folder), "dead_letters") else 0


def one_of(*known):
    """A check that only looks for NaN in these tables."""
    return lambda folder, row: not_a_number(tables_of(folder, known))


def sums(folder, rows, weight=None, missing=False):
    """What is wrong with the tables of `folder`, made of so many rows that weigh so much; "" if nothing.

    Args:
      missing: whether there may be none.
    """
    tables = tables_of(folder)
    if "summaries" not in tables:
        return "" if missing else "no summaries"
    wrong = not_a_number(tables)
    if wrong:
        return wrong
    found, good = sum(row["points"] for row in tables["summaries"]), rows - letters_in(folder)
    whole = all(row["coverage"] == 1 and not row["partial"] for row in tables["summaries"])
    if found > good or (whole and found != good):
        return f"{found} points of {good} good rows"
    total = sum(row["total_weight"] for row in tables["summaries"])
    if whole and weight is not None and good == rows and not math.isclose(total, weight, rel_tol=1e-6):
        return f"weight {total} of {weight}"
    for row in tables["summaries"]:
        own = [c for c in tables["centers"] if c["index"] is not None and _place(c) == _place(row)]
        if len(own) != row["centers"]:
            return f"{len(own)} centers, said to be {row['centers']}"
        weight = sum(c["weight"] for c in own) + (row["outliers"] or 0.0)
        if row["summary"] == "coreset" and not math.isclose(weight, row["total_weight"], rel_tol=1e-6, abs_tol=1e-9):
            return f"centers and outliers weigh {weight} of {row['total_weight']}"
    return ""


def _place(row):
    return row["window_start"], row["window_end"], row["key"], row["revision"]
