"""Tables' coordinates go by their columns' names: whichever order those are in."""
import numpy as np
import pyarrow as pa

from beam_coresets.points.column_order import Names, names_of_each, places_of


def by_name(table: pa.Table, columns: Names, wanted: Names, whose: str) -> pa.Table:
    """A table with its column `coordinates` in the order of the columns `wanted`.

    Args:
      columns, wanted: names as `summaries` has them; None, or one for a vector, where coordinates go by position.
      whose: what has the wanted ones, for messages.

    Raises:
      ValueError: other columns.
    """
    if not len(table):
        return table
    column = table.column("coordinates").combine_chunks()
    dim = len(column[0])
    places = places_of(names_of_each(columns, dim), names_of_each(wanted, dim), whose)
    if places is None:
        return table
    flat = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)[:, places]
    ends = np.arange(len(flat) + 1, dtype=np.int32) * dim
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(flat.ravel()))
    at = table.column_names.index("coordinates")
    return table.set_column(at, table.schema.field(at), lists)
