"""`schema.json` beside the tables: what their columns are, and what the coordinates in them are of."""
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from beam_coresets import __version__, table_schemas
from beam_coresets.transforms.writing import atomic_files

NAME = "schema.json"
_WRITER = b'"written_by": "beam-coresets '
_WINDOW = {
    "window_start": "start of the window, included; null in a batch without windows",
    "window_end": "end of the window, excluded; null in a batch without windows",
    "key": "value of the key column; empty without keys",
    "revision": "1 for the first decision of a window, 2 for its revision",
}
_SQUARED = "distance to the power z, in scaled units"
MEANINGS = {
    "summaries": {
        **_WINDOW,
        "shards": "number of shards",
        "responded": "shards that answered",
        "stragglers": "shards that did not",
        "distrusted": "shards that answered and are not trusted everywhere, as shard:fault",
        "coverage": "share of the buckets that a trusted shard answered for",
        "delta": "slack of the union; 0 where each row counts exactly once",
        "total_weight": "weight of the data",
        "cost": f"what the centers cost on all of the data ({_SQUARED}); null where it is not known",
        "cost_low": "lower end of the 95 % interval of cost",
        "cost_high": "upper end of the 95 % interval of cost",
        "cost_basis": "what the interval was measured by",
        "trust": "measured, weak: REASON, or bound only",
        "points": "rows that were counted",
        "coreset_points": "rows of the window in coreset",
        "centers": "rows of the window in centers that have an index",
        "degraded": "whether fewer shards answered than were to",
        "reason": "why the window was decided then: all, deadline, cap or batch",
        "decided_at": "when the window was decided; null in a batch",
        "partial": "buckets that were answered only in part",
        "k": "number of centers that was asked for",
        "z": "power of the distance",
        "metric": "euclidean or cosine",
        "method": "of sampling",
        "recovery": "how the weights were recovered",
        "scheme": "which shards hold which rows",
        "replication": "number of shards that hold each row",
        "seed": "of all random draws",
        "version": "of beam-coresets",
        "summary": "what shards sent: coreset, local_centers or pca",
        "r": "dimension of the subspaces that take the place of centers",
        "affine": "whether subspaces may miss the origin",
        "constraint_text": "what the clusters had to keep to",
        "factor": "how many times the best cost the centers cost at most, where that is proved",
        "alpha": "what choosing centers among the candidates costs",
        "outliers": "weight that the centers leave out",
        "threshold": f"{_SQUARED} beyond which rows are left out",
        "evidence": "bytes that rollup and solve need in order to tell errors",
        "columns": "names of the coordinates, in order",
        "drift_of": "the window that this one was compared with",
        "excess": "cost of its centers on this window over that of this window's own, less 1",
        "excess_low": "low end of its 95 % interval",
        "excess_high": "high end of its 95 % interval",
        "moved": "share of the rows that are in others of its clusters than then",
        "moved_low": "low end of its 95 % interval",
        "moved_high": "high end of its 95 % interval",
        "shift": "how far the center that has moved most has, in spreads of its cluster",
        "drifted": "whether that is more than a quiet source gives, but for one in 1,000 windows",
        "refused": "rows that became dead letters; with keys in the row of the empty key; null where not counted",
    },
    "centers": {
        **_WINDOW,
        "index": "0 to k - 1; null where a center of the window before has ended",
        "coordinates": "the center, in the order of columns, in the units of the data",
        "weight": "weight of the cluster",
        "cost": f"what the cluster costs ({_SQUARED})",
        "representative_id": "id of the nearest sampled row",
        "center_id": "identity that lasts over windows",
        "born": "end of the window in which the center appeared",
        "split_from": "center that most of its points belonged to",
        "merged_into": "center that took most of its points",
        "basis": "of a subspace: its r directions, one after another",
        "shift": "how far its rows are from those that the window of drift_of had near it, in spreads",
        "group_labels": "under a constraint on groups: the labels of the data; null elsewhere",
        "group_weights": "weight of each of group_labels in the cluster",
    },
    "coreset": {
        **_WINDOW,
        "id": "id of the row",
        "coordinates": "the row, in the order of columns, in the units of the data",
        "weight": "how much of the data the row stands for, calibrated: to solve and to draw",
        "weight_ht": "how much of the data the row stands for, unbiased: to estimate sums",
        "bucket": "bucket of the row",
        "shards": "shards that have sampled the row",
        "group_label": "value of the group column",
    },
    "columns": {
        **_WINDOW,
        "index": "place of the coordinate, from 0",
        "column_name": "name of the column; of one column of vectors with the place, as in embedding[3]",
        "row_count": "rows that were counted",
        "refused_count": "rows that were refused for this column; null where that is not known",
        **{
            f"{number}{end}": f"{which}{meaning}"
            for number, meaning in (
                ("mean", "the mean, in the units of the data"),
                ("deviation", "the root mean square distance from the mean, in the units of the data"),
                *((f"p{q:02d}", f"the least value that {q} % of the rows do not exceed") for q in (5, 25, 50, 75, 95)),
            )
            for end, which in (("", ""), ("_low", "low end of the 95 % interval of "),
                               ("_high", "high end of the 95 % interval of "))
        },
    },
    "candidates": {
        **_WINDOW,
        "index": "from 0",
        "id": "id of the row; null where the place is no row",
        "coordinates": "a place where a center may be put",
        "shard": "whose sample it comes from",
        "independent": "whether the coreset does without that sample",
    },
    "outliers": {
        **_WINDOW,
        "id": "id of the row",
        "coordinates": "the row, in the order of columns, in the units of the data",
        "weight": "how much of the data it stands for",
        "cost": f"to the nearest center ({_SQUARED})",
        "nearest": "index of that center",
    },
    "events": {
        **_WINDOW,
        "kind": "what has happened: born, split, merged, vanished, grown, shrunk, drifted, coverage_lost, ...",
        "center_id": "center that it is about",
        "other_id": "center that it split from or merged into",
        "size": "share of the weight, or number of shards or windows",
        "size_low": "lower end of the 95 % interval of size",
        "size_high": "upper end of the 95 % interval of size",
        "severity": "info, warning or critical",
        "sentence": "the same for people",
    },
    "dead_letters": {
        "reason": "why the row was refused",
        "column_name": "first column at fault; empty where the whole line is",
        "source": "file or topic",
        "position": "row of the file, or partition and offset",
        "row_text": "what was read, at most 500 characters",
    },
    "late": {
        "window_start": _WINDOW["window_start"],
        "window_end": _WINDOW["window_end"],
        "key_group": "group of keys that is decided together",
        "shard": "whose rows came late",
        "part": "of the source; -1 is all that the shard was given",
        "start": "first offset",
        "stop": "offset after the last one",
        "row_count": "how many of the rows belong to the window",
        "reason": "why they are in no window",
        "noted_at": "when that was seen",
    },
}


def write_schema(output: str, form: str, columns: Sequence[str] | None, metric: str | None, **settings: Any) -> None:
    """Writes what is in the tables of a folder.

    Args:
      output: the folder. form: of the tables' files.
      columns: names of the coordinates in order, or of the one column of vectors.
      metric: of the distances.
      settings: what else a reader wants to know; None is left out.

    Raises:
      ValueError: a file of that name is there that is not ours.
    """
    path = str(FileSystems.join(output, NAME))
    if FileSystems.exists(path) and _WRITER not in atomic_files.read(path):
        raise ValueError(f"output: must have no other files where the result goes, got {path!r}")
    held = {
        "schema_version": table_schemas.SCHEMA_VERSION,
        "written_by": f"beam-coresets {__version__}",
        "format": form,
        "columns": None if columns is None else list(columns),
        "metric": metric or "euclidean",
        "settings": {name: value for name, value in settings.items() if value is not None},
        "tables": {table: _columns(table, schema) for table, schema in table_schemas.SCHEMAS.items()},
    }
    data = json.dumps(held, indent=1).encode() + b"\n"
    atomic_files.replace(path, data)


def _columns(table: str, schema: pa.Schema) -> list[dict[str, str]]:
    return [{"name": f.name, "type": _type(f.type), "meaning": MEANINGS[table][f.name]} for f in schema]


def _type(kind: pa.DataType) -> str:
    if kind == table_schemas.INSTANT:
        return "timestamp, microseconds, UTC"
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)
