"""Breaks key lines of the core one at a time, and says which of them no test sees.

    nice python tests/mutations.py [NAME ...]

Each mutation is a line of a file as it should be, what takes its place, and the tests that must fail then. It is made
in a copy of the checkout, in a temporary folder; tests run there in one process, up to the first failure. A text that
is not in its file exactly once is an error: the list has to follow the code. NAMEs choose files by a part of their
path.

A survivor is a line that may break unnoticed. Those in `EXPLAINED` are equivalent or harmless, as it says.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
TIMEOUT = 600

RECOVERY, CERTIFICATE = "coordinator/recovery", "results/certificate"
T_RECOVERY, T_DECISION = "coordinator/test_recovery.py", "coordinator/test_decision.py"
T_CERTIFICATE, T_HAND = "results/test_certificate.py", "results/test_by_hand.py"
T_BOUNDS = "results/test_proved_bounds.py"


class Mutation(NamedTuple):
    """Attributes:
    file: below beam_coresets, without .py.
    old, new: the text and what takes its place.
    tests: files below tests, with pytest's options.
    """

    file: str
    old: str
    new: str
    tests: str


MUTATIONS = [Mutation(*each) for each in (
    # what came from which shard, and how it counts
    (RECOVERY, "self.trusted[shard, bucket] / np.maximum(self.holders, 1)[bucket]", "self.trusted[shard, bucket] / 1.0",
     T_HAND),
    (RECOVERY, "self.trusted / np.maximum(self.holders, 1) if", "self.trusted / 1.0 if", f"{T_HAND} {T_RECOVERY}"),
    (RECOVERY, "float(assignment.buckets / covered.sum()) if hashed", "1.0 if hashed", T_RECOVERY),
    (RECOVERY, "float(sums.max() / sums.min() - 1)", "0.0", T_RECOVERY),
    (RECOVERY, "return b / sums.min(), ", "return b, ", f"{T_RECOVERY} {T_BOUNDS}"),
    (RECOVERY, "holders[covered].max() / holders[covered].min() - 1", "holders[covered].max() - 1", T_RECOVERY),
    (RECOVERY, "1 / ((1 - gamma) * replication", "1 / ((1 + gamma) * replication", T_RECOVERY),
    (RECOVERY, "(1 - f) / f**2) * one", "(1 - f) / f) * one", T_HAND),
    (RECOVERY, "max(unit, spread) * (1 - f)", "unit * (1 - f)", T_HAND),
    (RECOVERY, "np.all(sure | ~held, axis=1, keepdims=True)", "np.any(sure | ~held, axis=1, keepdims=True)",
     f"{T_RECOVERY} shards/test_local_centers.py"),
    ("coordinator/ledger_check", "(error[shard] <= UNVERIFIED_ERROR)", "True", T_RECOVERY),
    ("coordinator/decision", "coreset.weights * (total / coreset.weights.sum())", "coreset.weights * 1.0", T_DECISION),
    ("coordinator/decision", "exact = with_totals(coreset.weights, coreset.groups, label_totals)",
     "exact = coreset.weights", "coordinator/test_decision.py results/test_weak_coreset.py"),
    ("coordinator/merge", "factor * d.total_weight * loss_factor(recovery) * factor / recovery.scale",
     "factor * d.total_weight * loss_factor(recovery)", "coordinator/test_merge.py"),
    ("coordinator/merge", "ratio * (scale * normalization(decision))", "ratio * scale", "coordinator/test_merge.py"),
    ("coordinator/merge", "weights_ht=sample.weights_ht * scale", "weights_ht=sample.weights_ht",
     "coordinator/test_merge.py"),
    # Property 1 and Theorem 6
    ("planning/single_multiplier", "fits = b * holders.min() >= 1 - _TOLERANCE and ", "fits = ",
     "planning/test_single_multiplier.py"),
    ("planning/single_multiplier", "b * holders.max() <= 1 + delta + _TOLERANCE", "b * holders.max() <= 1 + 2 * delta",
     "planning/test_single_multiplier.py"),
    ("planning/single_multiplier", "fits = b * (sizes.min() - t) >= 1 - _TOLERANCE and ", "fits = ",
     "planning/test_single_multiplier.py"),
    ("planning/single_multiplier", "b * untouched <= 1 + delta + _TOLERANCE", "b * untouched <= 2 + delta",
     "planning/test_single_multiplier.py"),
    ("planning/single_multiplier", "failed == 0, len(sets)", "True, len(sets)", "planning/test_single_multiplier.py"),
    ("planning/planner", "ratio = 1 + 2 / delta", "ratio = 2 / delta", "planning/test_planner.py"),
    # the interval
    ("results/sampling_error", "np.sqrt(np.maximum(holders * (holders - 1.0), 1.0))", "np.maximum(holders, 1.0)",
     T_HAND),
    ("results/sampling_error", "SamplingError(variance + per_cost * single", "SamplingError(variance", T_HAND),
    ("results/sampling_error", "(by_replicas.degrees * by_replicas.variance + prior * variance) / both",
     "by_replicas.variance", T_HAND),
    ("results/sampling_error", "prior = np.minimum(PRIOR, degrees)", "prior = degrees", T_HAND),
    ("results/sampling_error", "SamplingError(variance * recovery.scale**2", "SamplingError(variance", T_HAND),
    ("results/sampling_error", "return mean.sum(axis=0) * recovery.scale,", "return mean.sum(axis=0),", T_HAND),
    ("results/estimates", "np.where(deviation > 0, 2 * deviation, 1.0)", "1.0", "results/test_marginals.py"),
    ("results/sampled", "np.asarray(1 - np.minimum(1.0, unit / np.maximum(weights, unit)))",
     "np.ones(len(weights))", T_HAND),
    ("results/sampling_error", "if missing > 1e-9 * recovery.weights.sum():", "if False:", T_HAND),
    ("results/sampling_error", "np.where(other < 0, a, a / 2)", "np.where(other < 0, a, a)", T_CERTIFICATE),
    ("results/sampled", "unlike *= LIKE + np.abs(logs[step:] - logs[:-step])", "pass", T_CERTIFICATE),
    ("results/cross_fitting", "gained, error = _gain(totals, size)", "gained, error = np.zeros(folds), 0.0", T_HAND),
    ("results/cross_fitting", "outside = costs[fold, np.arange(len(fold))]", "outside = own", T_HAND),
    ("results/cross_fitting", "unseen * (outside - (costs", "(unseen > 0) * (outside - (costs", T_HAND),
    ("results/cross_fitting", "gain + unseen * np.abs(own) * by[fold]", "gain", T_HAND),
    ("results/cross_fitting", "varies += float((sampled.drawn[here] * (apart - square) / by).sum())", "pass", T_HAND),
    ("results/cross_fitting", "unseen / max(1e-300, unseen + (1 - unseen) / folds)", "1.0", T_HAND),
    ("results/cross_fitting", "drawn = 1 - (1 - sampled.drawn) / recovery.scale",
     "drawn = sampled.drawn", T_HAND),
    ("results/cross_fitting", "spread * (size.sum() + influence @ influence)", "spread * size.sum()", T_HAND),
    ("results/cross_fitting", "SLOW, FAST = 0.5, 1.0", "SLOW, FAST = 0.5, 0.5", T_HAND),
    ("results/cross_fitting", "room = ((most - least) / (most + least) + 1 - believed)", "room = (1 - believed)",
     T_HAND),
    ("results/cross_fitting", "np.where(open_rows, rest * factor[cluster], rest)", "rest", T_HAND),
    ("results/cross_fitting", "believed = min(1.0, whole / total) if total > 0 else 1.0", "believed = 1.0",
     f"{T_HAND} {T_CERTIFICATE}"),
    ("results/cross_fitting", "open_rows & (within[cluster, fold] < within.sum(axis=1)[cluster])", "open_rows",
     T_HAND),
    (CERTIFICATE, "loss_factor(recovery) / unit * float(second.sum())", "0.0", T_CERTIFICATE),
    (CERTIFICATE, "(more / unit / own * recovery.scale) ** 2", "0.0", T_HAND),
    (CERTIFICATE, "+ room / unit / own * recovery.scale", "", T_HAND),
    (CERTIFICATE, "(1 + LEVEL) / 2", "LEVEL", T_HAND),
    (CERTIFICATE, "own + found.correction, found.error", "own, found.error", T_CERTIFICATE),
    (CERTIFICATE, "upper / float(counted.min()) if", "upper if", "shards/test_pca.py -k nothing"),
    (CERTIFICATE, "raw - float(b @ local.slack) - rounding", "raw - rounding", T_BOUNDS),
    (CERTIFICATE, "rounding = _rounding(decision, model, b)", "rounding = 0.0", T_BOUNDS),
    # what is proved
    ("results/answer_rows", "if local is None or local.estimated or", "if local is None or",
     "shards/test_local_centers.py -k thinned"),
    ("coordinator/refused_rows", "bool(trusted[report.shard, r.part]), r.stop", "r.stop, 0",
     "coordinator/test_refused_rows.py"),
    ("coordinator/refused_rows", "if r.part not in best or rank > best[r.part][0]:", "if r.part not in best:",
     "coordinator/test_refused_rows.py"),
    ("streaming/cursor", "if tally.rows > tally.reported or tally.refused or total >= 0",
     "if tally.rows > tally.reported or total >= 0", "transforms/shards/test_read_shards.py -k refused"),
    ("streaming/events", "refused.share <= MOST_REFUSED", "refused.share < 0", "streaming/test_events.py"),
    ("shards/local_centers", "(alpha + alpha * beta + beta)", "(alpha + beta)",
     "shards/test_local_centers.py -k paper"),
    ("shards/local_centers", "slack=2 * cost", "slack=cost", f"{T_BOUNDS} shards/test_local_centers.py"),
    ("shards/local_centers", "weights * (ledger.weight / weights.sum())", "weights * 1.0",
     "shards/test_local_centers.py -k thinned"),
    ("shards/pca", "(1 + assignment) * (1 + relaxation)", "1 + assignment + relaxation", T_BOUNDS),
    ("sampling/frequent_directions", "self.r * sketch.shrinkage + float(dropped[: self.r].sum())",
     "float(dropped[: self.r].sum())", "shards/test_pca.py sampling/test_frequent_directions.py"),
    ("sampling/frequent_directions", "additive = sketch.additive + float(dropped.sum())", "additive = sketch.additive",
     "shards/test_pca.py"),
    ("sampling/frequent_directions", "math.sqrt(first.weight * share) * apart[None]", "0 * apart[None]",
     "shards/test_pca.py"),
    # samples
    ("sampling/drawing", "rows[kept] = i\n                out[kept] = weights[i] / p",
     "rows[kept] = i\n                out[kept] = weights[i]", "sampling/test_importance.py"),
    ("sampling/drawing", "row[kept] = i\n                    out[kept] = weights[i] / p",
     "row[kept] = i\n                    out[kept] = weights[i]", "shards/test_pieces.py"),
    ("sampling/drawing", "cell = strata[q] * cells + at", "cell = at", "shards/test_pieces.py"),
    ("shards/pieces", "out[np.argsort(holders, kind=\"stable\")] = np.concatenate(strata)",
     "out[:] = 0", "shards/test_pieces.py"),
    ("shards/merge_reduce", "beyond = (ordinal + 1 - most) // most", "beyond = ordinal // most",
     "shards/test_pieces.py"),
    ("sampling/calibration", "weights[i] *= 1 + shrink * change[i]", "weights[i] *= 1.0",
     "sampling/test_calibration.py"),
    ("sampling/calibration", "out = _to_totals(out, chosen, total)", "out = out",
     "sampling/test_calibration.py"),
    ("sampling/subspace_sampling", "factors = 1 + uncertain * (sampled", "factors = 1 + 0 * (sampled",
     "sampling/test_subspace_sampling.py"),
    ("sampling/subspace_sampling", "factors = 1 + uncertain * (sampled", "factors = 1 + (sampled",
     "sampling/test_subspace_sampling.py"),
    ("sampling/by_label", "np.asarray(weights * factor[label])", "np.asarray(weights)", "sampling/test_by_label.py"),
    ("shards/merge_reduce", "calibrated * (ledger.weight / total if total > 0 else 1.0)", "calibrated",
     "shards/test_merge_reduce.py"),
    ("sampling/theory_sizes", "k * epsilon**-2 * min(math.sqrt(k), epsilon**-2) * logs", "k * epsilon**-2 * logs",
     "sampling/test_theory_sizes.py"),
    # constraints
    ("solvers/constrained/solver", "max(1.0, dearer / cheaper)", "max(1.0, cheaper / dearer)",
     "solvers/test_constrained.py"),
    ("results/weak_coreset", "metric)[1] / free if free > 0", "metric)[1] * 0 + 1 if free > 0",
     "results/test_weak_coreset.py"),
    ("solvers/constrained/exchange", "return float(max(0.0, root / 2) ** z)", "return float(max(0.0, root) ** z)",
     "solvers/test_constrained.py"),
    ("solvers/constrained/exchange", "best ** (1 / z) - way ** (1 / z)", "best ** (1 / z)",
     "solvers/test_constrained.py results/test_proved_bounds.py"),
    ("solvers/constrained/constraints", "found.setdefault(own, []).append(i)", "found.setdefault((), []).append(i)",
     "solvers/test_constraints.py"),
    ("solvers/constrained/solver", "own + (cost - own) * calibrated", "cost", "solvers/test_constrained.py"),
)]  # fmt: skip

EXPLAINED = {
    (RECOVERY, "return b, "): "the linear program's own b already counts no bucket less than once, up to its tolerance",
    ("results/cross_fitting", "outside = own"): "a fold's points share its gain differently; the sum of it is the same",
}


def main() -> int:
    """Prints a line for each mutation; returns 1 where one survived that is not explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of paths")
    names, survived = parser.parse_args().names, 0
    chosen = [each for each in MUTATIONS if not names or any(name in each.file for name in names)]
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(pathlib.Path(folder) / "checkout")
        for each in chosen:
            began, killed = time.monotonic(), _killed(copy, each)
            why = EXPLAINED.get((each.file, each.new), "")
            survived += not killed and not why
            verdict = "killed" if killed else f"SURVIVED {why}"
            print(f"{verdict}: {each.file}: {each.old} -> {each.new} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(chosen)} mutations, {survived} survived without a reason")
    return 1 if survived else 0


def _copied(to: pathlib.Path) -> pathlib.Path:
    """The checkout's files, without what git does not know."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True)
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)
    return to


def _killed(copy: pathlib.Path, mutation: Mutation) -> bool:
    """Whether a test fails in the copy with that text in place of the other.

    Raises:
      ValueError: the text is not there exactly once.
    """
    path = copy / "beam_coresets" / f"{mutation.file}.py"
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file}: must have once {mutation.old!r}, got it {text.count(mutation.old)} times")
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        tests = [f"tests/{part}" if part.endswith(".py") else part for part in mutation.tests.split()]
        found = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests],
            cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, timeout=TIMEOUT,
        )  # fmt: skip
    finally:
        path.write_text(text)
    if found.returncode not in (0, 1):
        raise ValueError(f"tests: must run, got {found.stdout.decode()[-2000:]} {found.stderr.decode()[-500:]}")
    return found.returncode == 1


if __name__ == "__main__":
    raise SystemExit(main())
