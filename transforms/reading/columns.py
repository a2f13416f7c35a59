"""Which columns of a file make a point, settled once from its first file, and what a refused row is called."""
import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets import table_schemas
from beam_coresets.declared import declare, declared_as, described
from beam_coresets.parameters.plan import PlanParameters
from beam_coresets.points import block
from beam_coresets.transforms.base.dead_letter import DeadLetter
from beam_coresets.transforms.reading.types import kinds
from beam_coresets.transforms.text.dialects import TextParameters

METRICS = ("euclidean", "cosine")
_OUTPUT = set(table_schemas.CORESET.names) - {"id", "group"}
_PANDAS_INDEX = "__index_level_"  # an index that pandas wrote beside the data


class SchemaError(ValueError):
    """A file or row type lacks a column that was asked for, or holds something in it that can't be used."""


beam.coders.registry.register_coder(DeadLetter, beam.coders.RowCoder)


@dataclasses.dataclass(frozen=True)
class ColumnParameters:
    """What `Columns` and the commands that read rows take."""

    columns: tuple[str, ...] | None = declare(
        None, "coordinates, comma-separated (default: all numeric columns without another use)", group="data"
    )
    vector_column: str | None = declare(None, "one column of vectors instead; asks for --metric", group="data")
    metric: str = declared_as(PlanParameters, "metric", "euclidean")
    weight_column: str | None = declare(None, "numbers that rows weigh (default: 1 each)", group="data")
    id_column: str | None = declare(None, "your own id; it comes back with sampled rows and centers", group="data")
    group_column: str | None = declare(None, "a label that sampled rows keep", group="data")
    keep_columns: tuple[str, ...] = declare((), "more columns that sampled rows keep", group="data")
    dim: int | None = declare(None, "width of the vectors (default: the most common in the first rows)", group="data")


@described
@dataclasses.dataclass(frozen=True)
class Columns(TextParameters, ColumnParameters):
    """What to take from a row.

    Attributes:
      header: CSV files begin with a line of names; else columns are f0, f1, ...; None: they do, but a line that may as
        well be data is refused.

    Vectors are lists or fixed-size lists (float16, float32, float64, integers). With metric cosine points are scaled to
    unit length. Weights are not negative, ids and labels integers or text; a label becomes the block's `groups`, a
    31-bit hash of its text, and kept columns travel in the block's `extras`. Without ids a row is known by its file
    and row number.

    Raises:
      ValueError: contradicting or unknown choices.
    """

    header: bool | None = None

    def __post_init__(self) -> None:
        self.check_dialect()
        if self.metric not in METRICS:
            raise ValueError(f"metric: must be one of {METRICS}, got {self.metric!r}")
        for name in ("columns", "keep_columns"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name}: must be a tuple of names, got {getattr(self, name)!r}")
        if self.columns is not None and self.vector_column is not None:
            raise ValueError(f"columns: must be left out with vector_column {self.vector_column!r}, got {self.columns}")
        if self.columns is not None and (not self.columns or len(set(self.columns)) < len(self.columns)):
            raise ValueError(f"columns: must be distinct names, at least one, got {self.columns}")
        if self.dim is not None and self.dim < 1:
            raise ValueError(f"dim: must be at least 1, got {self.dim}")
        taken = sorted(set(self.keep_columns) & _OUTPUT)
        if taken:
            raise ValueError(f"keep_columns: must not be called as the output's own columns are, got {taken[0]!r}")
        for name, own in (("id", self.id_column), ("group", self.group_column)):
            if name in self.keep_columns and own != name:
                raise ValueError(
                    f"keep_columns: must leave the name {name!r} to --{name}-column (which the output calls {name!r}),"
                    f" got {self.keep_columns}"
                )

    @property
    def roles(self) -> tuple[str, ...]:
        """The named columns that are no coordinates, each once."""
        named = (self.weight_column, self.id_column, self.group_column, *self.keep_columns)
        return tuple(dict.fromkeys(name for name in named if name is not None))


@dataclasses.dataclass(frozen=True)
class Layout:
    """`Columns` after a look at the first file: the same for every part of a job.

    Attributes:
      options: what was asked for.
      coordinates: names of the scalar coordinates, or of the one vector column.
      dim: coordinates of a point.
      schema: Arrow types of the columns to read, as found in the first file.
      file_columns: all columns of the first file.
      left_out: the columns, with their types, that are no coordinates as they hold no numbers, where none were named.
      keys: those among the columns to read that the folders say, not the files.
      named: whether the file says what its columns are called.
      own: columns of the files that all their folders have a key for, with the same value: it says nothing of the rows.
    """

    options: Columns
    coordinates: tuple[str, ...]
    dim: int
    schema: Any
    file_columns: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    named: bool = True
    keys: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Says which columns are coordinates and which are left out, where the types have settled it."""
        if not self.left_out:
            return ()
        return (f"columns: {_some(self.coordinates)}; left out: {_some(self.left_out)}",)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The coordinates' names, or the one vector column's; None where the file has none."""
        return self.coordinates if self.named else None

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of all columns that are read of a file."""
        return tuple(self.schema.names)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that are more than kept."""
        options = self.options
        named = (options.weight_column, options.id_column, options.group_column)
        return (*self.coordinates, *(name for name in named if name is not None))

    @property
    def block_rows(self) -> int:
        """Rows read for one block; fewer are in it where some were refused."""
        types = [self.schema.field(name).type for name in self.coordinates]
        return block.block_rows(self.dim, 4 if all(map(kinds.fits_float32, types)) else 8)

    def check(self, schema: Any, source: str) -> None:
        """Raises SchemaError, naming `source`, where another file's columns can't be read as the first file's were."""
        _validate(schema, self.options, self.coordinates, source)


def _validate(schema: Any, options: Columns, coordinates: Sequence[str], source: str) -> None:
    """Every column that is asked for is there, once, with a type that its role can use; all that are not are named."""
    wanted: list[tuple[str, str, Callable[[Any], bool], str]] = []
    for name in coordinates:
        if options.vector_column is not None:
            wanted.append(("vector_column", name, kinds.is_vector, "lists of numbers"))
        else:
            wanted.append(("columns", name, kinds.is_measure, "numbers"))
    roles = (("weight_column", options.weight_column, kinds.is_number, "numbers"),
             ("id_column", options.id_column, kinds.is_label, "integers or text"),
             ("group_column", options.group_column, kinds.is_label, "integers or text"))
    wanted += [(option, name, test, what) for option, name, test, what in roles if name is not None]
    wanted += [("keep_columns", name, lambda t: True, "") for name in options.keep_columns]
    found_names = Counter(schema.names)
    missing: dict[str, list[str]] = {}
    for option, name, _, _ in wanted:
        if (count := found_names[name]) != 1:
            missing.setdefault(option, []).append(repr(name) if not count else f"{name!r} {count} times")
    for option, names in missing.items():
        have = _some(schema.names)
        raise SchemaError(f"{option}: must be among the columns of {source!r} ({have}), got {', '.join(names)}")
    unfit: dict[tuple[str, str], list[Any]] = {}
    for option, name, test, what in wanted:
        if not test(schema.field(name).type):
            unfit.setdefault((option, what), []).append(schema.field(name))
    said = []
    for (option, what), fields in unfit.items():
        hint = _remedy(fields) if option == "columns" else ""
        said.append(f"{option}: must hold {what}, got {_described(fields)} in {source!r}{hint}")
    if said:
        raise SchemaError("; ".join(said))


def _described(fields: Sequence[Any]) -> str:
    return ", ".join(f"{field.name!r} ({_type_of(field)})" for field in fields)


def _type_of(field: Any) -> str:
    """The type of a column as its file has it."""
    own = (field.metadata or {}).get(kinds.FILE_TYPE)
    return own.decode() if own else "empty" if pa.types.is_null(field.type) else str(field.type)


def _some(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names):,} in all)" if len(names) > most else "")


def _remedy(fields: Sequence[Any]) -> str:
    one = len(fields) == 1
    it, leave = ("it", repr(fields[0].name)) if one else ("them", "them")
    option = "--vector-column" if one and kinds.is_vector(fields[0].type) else "--keep-columns"
    return f": name {it} in {option}, or leave {leave} out with --columns"


def _numeric(schema: Any, options: Columns, source: str, keys: Collection[str]) -> tuple[str, ...]:
    """The columns that are coordinates if none are named."""
    used = {*options.roles, *keys, ""}
    free = [f for f in schema if f.name not in used and not f.name.startswith(_PANDAS_INDEX)]
    names = tuple(field.name for field in free if kinds.is_number(field.type))
    if not names:
        vectors = [field.name for field in free if kinds.is_vector(field.type)]
        hint = f": name one in --vector-column ({_some(vectors)})" if vectors else ": name some in --columns"
        got = _some([_described([field]) for field in free]) or "none but those with another use"
        raise SchemaError(f"columns: must hold numbers, at least one in {source!r}, got {got}{hint}")
    return names


def resolve(
    schema: Any, options: Columns, source: str, sample: Any = None, keys: Collection[str] = ()
) -> Layout:
    """Settles which columns are read, from the Arrow schema (and for vectors a sample) of the first file.

    Args:
      keys: names that its folders say, which are no coordinates by themselves.

    Raises:
      SchemaError: a column is missing or of a type that can't be used; the message names what is there.
    """
    if options.vector_column is not None:
        coordinates: tuple[str, ...] = (options.vector_column,)
    elif options.columns is not None:
        coordinates = tuple(options.columns)
    else:
        coordinates = _numeric(schema, options, source, keys)
    _validate(schema, options, coordinates, source)
    dim = len(coordinates)
    if options.vector_column is not None:
        kind = schema.field(options.vector_column).type
        dim = options.dim or _common_width(kind, options.vector_column, sample, source)
    needed = dict.fromkeys((*coordinates, *options.roles))
    read = pa.schema([pa.field(name, kinds.readable_type(schema.field(name).type)) for name in needed])
    out: tuple[str, ...] = ()
    if options.columns is None and options.vector_column is None:
        out = tuple(f"{f.name or 'the one without a name'} ({_type_of(f)})" for f in schema if f.name not in needed)
        out += tuple(f"{key} (a key of the folders)" for key in keys if key not in (*needed, *schema.names))
    return Layout(options, coordinates, dim, read, tuple(schema.names), out)


def _common_width(kind: Any, name: str, sample: Any, source: str) -> int:
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    widths = Counter() if sample is None else Counter(pc.list_value_length(sample.column(name)).drop_null().to_pylist())
    widths.pop(0, None)
    if not widths:
        raise SchemaError(f"vector_column: must hold vectors in the first rows (or give dim), got none in {source!r}")
    return int(min(widths, key=lambda width: (-widths[width], width)))
