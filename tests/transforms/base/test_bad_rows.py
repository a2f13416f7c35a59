"""What is said when too many rows were refused."""
import random
import re

import pytest

from beam_coresets.transforms.base.bad_rows import BadRows, tolerate
from beam_coresets.transforms.base.dead_letter import DeadLetter


def letter(file, row):
    return DeadLetter("null", "x", file, f"row {row}", "")


def test_the_first_rows_are_named_by_number_in_whatever_order_they_come():
    letters = [letter("a.csv", row) for row in (9, 10, 11, 100)] + [letter("b.csv", row) for row in range(20)]
    random.Random(0).shuffle(letters)
    with pytest.raises(ValueError, match="got 24") as error:
        tolerate(letters, 0)
    assert re.findall(r"(\w)\.csv, row (\d+)", str(error.value)) == [
        ("a", "9"), ("a", "10"), ("a", "11"), ("a", "100"), ("b", "0")
    ]  # fmt: skip


def test_parts_that_are_merged_give_the_same_first_rows():
    count = BadRows()
    halves = [[letter("a", row) for row in rows] for rows in (range(0, 40, 2), range(1, 40, 2))]
    totals = []
    for half in halves:
        total = count.create_accumulator()
        for each in half:
            total = count.add_input(total, each)
        totals.append(total)
    number, kinds, first = count.merge_accumulators(totals)
    assert (number, kinds) == (40, {"null in 'x'": 40})
    assert [text for _, text in first] == [f"a, row {row}: null in 'x'" for row in range(5)]


def test_positions_that_are_no_row_numbers_are_sorted_too():
    positions = "partition 1, offset 7", "", "offset 2"
    letters = [DeadLetter("unparsable", "", "t", position, "") for position in positions]
    with pytest.raises(ValueError, match="t, : unparsable; t, offset 2: unparsable; t, partition 1"):
        tolerate(letters, 2)


@pytest.mark.parametrize(("reason", "helps"), [("null", True), ("unparsable", False)])
def test_missing_values_are_said_to_be_of_columns_that_can_be_left_out(reason, helps):
    with pytest.raises(ValueError, match="max_bad_rows") as error:
        tolerate([DeadLetter(reason, "x", "a.csv", "row 1", "")], 0)
    assert ("--columns leaves out" in str(error.value)) is helps
