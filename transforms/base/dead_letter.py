"""A row that was refused."""
import re
from typing import NamedTuple


class DeadLetter(NamedTuple):
    """A row that was refused: why, which column, and where it stood.

    Attributes:
      reason: "null", "nan", "infinite", "unparsable", "negative", "zero vector", or "width: must be 8, got 3".
      column_name: the first column at fault; empty where the whole line is.
      source: the file.
      position: "row 17": data rows from 0, without header and blank lines, as in ids such as "part-3.parquet#17".
      row_text: what was read, at most 500 characters.
    """

    reason: str
    column_name: str
    source: str
    position: str
    row_text: str

    @property
    def kind(self) -> str:
        """The reason without its particulars, as the name of a counter has it."""
        return re.sub(r"\W+", "_", self.reason.split(":")[0])
