"""Arrow types by what they can be in a point, and their columns as numbers and as labels.

| type | coordinate | by itself | weight | id, group |
| --- | --- | --- | --- | --- |
| integers, decimals | yes | yes | yes | yes |
| floats | yes | yes | yes | |
| booleans (0 and 1) | yes | | | yes |
| timestamps, dates, times, durations (seconds) | yes | | | yes |
| text, bytes, UUIDs, enums | | | | yes |
| lists, records, maps | a vector column | | | |

"By itself": without --columns. A dictionary is what its values are, an extension type what it is stored as. Any type
can be kept.
"""
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_coresets import values

Array = npt.NDArray[Any]

FILE_TYPE = b"file_type"  # metadata of a field: its type as the file says it, where Arrow has another name for it
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_VIEWS = {"string_view": pa.string(), "binary_view": pa.binary()}


def plain_type(kind: Any) -> Any:
    """What a column's values are, however they are encoded: dictionaries, extensions, views; a UUID is its text."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if _is_uuid(kind) else plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return _VIEWS.get(str(kind), kind)


def readable_type(kind: Any) -> Any:
    """`plain_type`, and text (JSON) for records and lists of which no schema says what is in them."""
    kind = plain_type(kind)
    return pa.string() if pa.types.is_struct(kind) and not kind.num_fields else kind


def plain_column(column: Any) -> Any:
    """A column (n,) with the type that `plain_type` gives."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        if _is_uuid(kind):
            cells = column.storage.to_pylist()
            return pa.array([None if cell is None else str(uuid.UUID(bytes=cell)) for cell in cells], pa.string())
        return plain_column(column.storage)
    if pa.types.is_dictionary(kind):
        return plain_column(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return plain_column(pc.run_end_decode(column))
    view = _VIEWS.get(str(kind))
    return column if view is None else column.cast(view)


def _is_uuid(kind: Any) -> bool:
    return str(getattr(kind, "extension_name", "")) == "arrow.uuid"


def is_list(kind: Any) -> bool:
    """Whether a type is a list of any sort."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def has_fixed_lists(kind: Any) -> bool:
    """Whether a type is a list of fixed size, or has one in it."""
    if pa.types.is_fixed_size_list(kind):
        return True
    return any(has_fixed_lists(kind.field(i).type) for i in range(kind.num_fields))


def is_vector(kind: Any) -> bool:
    """Whether a type is a list of numbers."""
    return is_list(kind := plain_type(kind)) and is_number(kind.value_type)


def is_number(kind: Any) -> bool:
    """Whether a type is a coordinate without being named."""
    kind = plain_type(kind)
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_measure(kind: Any) -> bool:
    """Whether a type can be a coordinate where it is named; a column without a value can."""
    kind = plain_type(kind)
    return is_number(kind) or is_time(kind) or bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))


def is_time(kind: Any) -> bool:
    """Whether a type is a point in time, a time of the day, or a duration."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)
                or pa.types.is_duration(kind))  # fmt: skip


def is_bytes(kind: Any) -> bool:
    """Whether a type holds bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def is_label(kind: Any) -> bool:
    """Whether a type can identify a row or a group."""
    kind = plain_type(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or is_bytes(kind)
    exact = pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    return bool(text or exact or pa.types.is_null(kind) or is_time(kind))


def fits_float32(kind: Any) -> bool:
    """Whether float32 holds every number of a type, or of a list's items, exactly."""
    kind = plain_type(kind)
    while is_list(kind):
        kind = plain_type(kind.value_type)
    small = (pa.int8(), pa.int16(), pa.uint8(), pa.uint16(), pa.float16(), pa.float32(), pa.bool_())
    return any(kind == t for t in small)


def integer_type(found: Sequence[int | float]) -> Any:
    """The type that holds some numbers exactly: of integers, or float64 if there are others; text beyond 64 bits."""
    if any(type(number) is float for number in found):
        return pa.float64()
    least, most = min(found, default=0), max(found, default=0)
    if least >= -(2**63) and most < 2**63:
        return pa.int64()
    return pa.uint64() if least >= 0 and most < 2**64 else pa.string()


def numbers(column: Any) -> Array:
    """A column of measures (n,) as NumPy; nulls become NaN, times and durations seconds (of the epoch, of the day)."""
    column = plain_column(column)
    kind = column.type
    if is_time(kind):
        return _seconds(column)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        column = column.cast(pa.uint8() if pa.types.is_boolean(kind) else pa.float64())
    found: Array = column.to_numpy(zero_copy_only=False)
    return found


def _seconds(column: Any) -> Array:
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    steps = _PER_SECOND[column.type.unit]
    whole = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64()).cast(pa.int64())
    null, counts = np.asarray(whole.is_null()), whole.fill_null(0).to_numpy()
    seconds: Array = counts // steps + (counts % steps) / steps
    return np.where(null, np.nan, seconds)


def labels(column: Any) -> pa.Array:
    """A column of labels (n,) as text; bytes that are no UTF-8, and all of fixed size, as hexadecimal."""
    column = plain_column(column)
    kind = column.type
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([None if cell is None else cell.hex() for cell in column.to_pylist()], pa.string())
    if is_bytes(kind):
        try:
            return column.cast(pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            return pa.array([values.label(cell) for cell in column.to_pylist()], pa.string())
    if is_time(kind):
        return pa.array(values.portable(column), pa.string())
    return column.cast(pa.string())
