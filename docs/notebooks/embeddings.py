# %% [markdown]
# # A batch of embeddings
#
# 10,000 vectors of 32 numbers are summarized in this process, with two of eight shards missing. Then the summary alone
# answers other questions. Run it as a script (`python docs/notebooks/embeddings.py`) or cell by cell.

# %%
import shutil

import numpy as np

from beam_coresets import Plan, blocks_of, decide, shard_reports, summarize

rng = np.random.default_rng(0)
topics = rng.normal(size=(6, 32))
vectors = topics[rng.integers(6, size=10_000)] + 0.5 * rng.normal(size=(10_000, 32))

# %% [markdown]
# ## Shards, stragglers, an answer
#
# Each row is given to two of eight shards. Shards 1 and 4 never answer; as they are no neighbours, every row still has
# a shard that has answered for it.

# %%
plan = Plan(k=6, shards=8, replication=2, metric="cosine")
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # what the metric cosine clusters
reports = [report for report in shard_reports(blocks_of(unit), plan.merge_reduce) if report.shard not in (1, 4)]
decision = decide(reports, plan.policy)
summary = summarize(decision, plan.question)
(row,) = summary.summaries.to_pylist()
print(f"coverage {row['coverage']:.0%}, missing {row['stragglers']}")
print(f"sampled {row['coreset_points']:,} of {row['points']:,} rows")
print(f"cost {row['cost']:,.0f}, 95 % interval {row['cost_low']:,.0f} to {row['cost_high']:,.0f}")

# %% [markdown]
# ## Is the interval right?
#
# Here all rows are at hand, so the true cost of these centers can be computed.

# %%
centers = np.array(summary.centers["coordinates"].to_pylist())
true = float((1 - (unit @ (centers / np.linalg.norm(centers, axis=1, keepdims=True)).T).max(axis=1)).sum())
print(f"true cost {true:,.0f}: {'inside' if row['cost_low'] <= true <= row['cost_high'] else 'outside'}")

# %% [markdown]
# ## Another k, from a folder
#
# In a pipeline `WriteSummaries` writes the tables of the summary, and `open_summaries` reads them, in any program and
# without Beam. How the cost falls with k shows that there are six topics.

# %%
import apache_beam as beam

from beam_coresets import PointBlock
from beam_coresets.summaries import open_summaries
from beam_coresets.transforms import Summarize, WriteSummaries

shutil.rmtree("out-embeddings", ignore_errors=True)  # what an earlier run has decided stands
with beam.Pipeline() as p:
    blocks = p | beam.Create(list(blocks_of(unit))).with_output_types(PointBlock)
    (blocks | Summarize(plan)).decided | WriteSummaries("out-embeddings")
window = open_summaries("out-embeddings").latest()
for k in (4, 6, 8):
    print(k, window.coreset.solve(k=k, quick=True).certificate.cost)

# %% [markdown]
# ## Which vectors are strange?
#
# `quantiles` are the share of the data that is less unusual. The first row below is of a topic, the second of none.

# %%
scored = window.coreset.score(np.stack([topics[0], rng.normal(size=32)]))
print(scored.labels, scored.scores.round(2), scored.quantiles.round(4))
