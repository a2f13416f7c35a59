"""Windows that have no row in any table are announced without a message, and without a producer."""
from beam_coresets.streaming.windows import Window
from beam_coresets.table_schemas import SCHEMAS
from beam_coresets.transforms.writing.kafka_sink import _Announce


class Emptiness:
    """Claims of windows that nobody has had rows in."""

    def __init__(self):
        self.marked = []

    def announced(self, window):
        return False

    def read(self, window, table):
        return SCHEMAS[table].empty_table()

    def tables_of(self, window):
        return list(SCHEMAS)

    def mark_announced(self, window):
        self.marked.append(window)


def test_a_bundle_of_windows_without_rows_needs_no_producer():
    claims, window = Emptiness(), Window(0.0, 5.0, "group-1")
    announce = _Announce(claims, {"bootstrap.servers": "nowhere:1"}, "topic", "json")
    announce.start_bundle()
    announce.process(window)
    assert [each.value for each in announce.finish_bundle()] == [window]
    assert claims.marked == [window]
