# %% [markdown]
# # A stream's day
#
# Twelve hours of rides, as a stream that is played quickly: Beam's `TestStream` gives the rows and moves the clock.
# A stream that reads Kafka is the same but for its source ([streams](../streaming.md)). At 15:00 something changes. Run
# it as a script (`python docs/notebooks/stream_day.py`) or cell by cell.

# %%
import shutil

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream

MORNING, HOUR = 1_795_248_000, 3600  # 2026-11-21, 08:00 in UTC
rng = np.random.default_rng(0)
places = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])  # km


def rides(hour):
    """A thousand of an hour: from 15:00 on a fifth of them begin at a place where nobody was before."""
    shares = [0.4, 0.3, 0.3, 0.0] if hour < 7 else [0.3, 0.3, 0.2, 0.2]
    starts = places[rng.choice(4, 1_000, p=shares)] + rng.normal(size=(1_000, 2))
    return [{"east": east, "north": north} for east, north in starts.tolist()]


day = TestStream()
for hour in range(12):
    at = MORNING + hour * HOUR
    day = day.advance_watermark_to(at)
    day = day.add_elements([beam.window.TimestampedValue(ride, at + 3.5 * i) for i, ride in enumerate(rides(hour))])
day = day.advance_watermark_to_infinity()

# %% [markdown]
# ## A summary for every hour

# %%
from beam_coresets.transforms import Columns, Plan, StreamPlan, SummarizeUnbounded, WindowSpec, WriteSummaries

shutil.rmtree("out-day", ignore_errors=True)  # what an earlier run has decided stands
write = WriteSummaries("out-day")
stream = StreamPlan(Plan(k=4, shards=4, replication=2), WindowSpec.parse("1h"))
with beam.Pipeline(options=PipelineOptions(streaming=True)) as p:
    rows = p | day
    result = rows | SummarizeUnbounded(stream, columns=Columns(columns=("east", "north")), claims=write.claims)
    result.decided | write

# %% [markdown]
# ## What was there to tell?

# %%
from beam_coresets.summaries import open_summaries

windows = open_summaries("out-day")
for window in windows:
    print(f"{window.start:%H:%M}", window.certificate.cost, f"coverage {window.certificate.coverage:.0%}")
for event in windows.events().to_pylist():
    print(f"{event['window_start']:%H:%M}", event["sentence"])

# %% [markdown]
# ## The afternoon beside the morning
#
# `compare` ends with 3 where there is drift. It is the command `beam-coresets compare`.

# %%
from beam_coresets.pipelines.main import main

code = main(["compare", "out-day", "--from", "2026-11-21T15:00", "--to", "2026-11-21T20:00",
             "--with-from", "2026-11-21T08:00", "--with-to", "2026-11-21T15:00"])  # fmt: skip
print("drift" if code == 3 else "no drift")

# %% [markdown]
# ## One summary for the whole day
#
# `rollup` merges the hours' coresets. The mean of a column of the day has an interval, as every answer has.

# %%
whole = windows.rollup(k=4)
print(whole)
print(whole.coreset.mean("north"), whole.coreset.share_where(lambda rows: rows["north"] > 4))

# %% [markdown]
# ## The page
#
# The same as `beam-coresets report out-day`: open `out-day/report.html` in a browser.

# %%
main(["report", "out-day"])
