"""--explain: what a job would do, without running it."""
from typing import Any

import apache_beam as beam
from apache_beam.pipeline import PipelineVisitor
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from beam_coresets.parameters.plan import Plan
from beam_coresets.pipelines.running.texts import escape
from beam_coresets.points.block import block_rows
from beam_coresets.sampling.far_points import most_kept
from beam_coresets.transforms.reading.blocks import ReadBlocks
from beam_coresets.transforms.shards.read_shards import FLUSH_BYTES
from beam_coresets.transforms.streams.folder.files import FileParts
from beam_coresets.transforms.summarize_parts import assignment_of_parts


def show(
    pipeline: beam.Pipeline, plan: Plan, source: ReadBlocks | FileParts, console: Console
) -> dict[str, str]:
    """Prints scheme, sizes, memory and graph; of a job whose shards read for themselves if the source is FileParts.

    Returns:
      What was said of each, but the graph.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts = dict(_facts(plan, source))
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table, highlight=False)
    console.print(_graph(pipeline), highlight=False)
    return facts


def _facts(plan: Plan, source: ReadBlocks | FileParts) -> list[tuple[str, str]]:
    readers = isinstance(source, FileParts)
    scheme, merge_reduce = plan.assignment, plan.merge_reduce
    if readers:
        scheme = assignment_of_parts(plan, len(source.parts))
    dim = source.dim
    size, rows = plan.sampler.size_in(dim, 4), block_rows(dim)
    share = scheme.load().max()
    node = merge_reduce.node_size(dim, 4) * (4 * dim + 16) + 24 * plan.buckets
    if plan.summary == "pca":
        node = plan.relaxation.kept(dim) * 8 * dim + 24 * plan.buckets
    leaf = FLUSH_BYTES if readers else node
    shard = leaf + node * 8
    total = sum(f.size_in_bytes for f in source.files)
    tolerated = scheme.tolerates()
    return [
        ("input", f"{len(source.files)} files, {total / 1e6:,.1f} MB, {source.format}, {dim} coordinates"),
        ("parts", f"{len(source.parts)} read {'by each shard that holds them' if readers else 'independently'}, "
                  f"in blocks of {rows:,} rows"),
        ("scheme", f"{plan.scheme}, {plan.shards} shards, replication {plan.replication}, "
                   f"{'parts as' if readers else plan.buckets} buckets"),
        ("load", f"each shard holds up to {share:.1%} of the rows"),
        ("loses", f"nothing for any {tolerated} stragglers" if tolerated >= 0 else "some rows even if all answer"),
        _sent(plan, size, merge_reduce.node_size(dim, 4)),
        ("memory", f"about {shard / 1e6:.1f} MB a shard, {shard * plan.shards / 1e6:.0f} MB for all in one worker"),
        ("answer", f"recovery {plan.recovery}; k = {plan.k}, metric {plan.metric}{_candidates(plan)}"),
    ]  # fmt: skip


def _sent(plan: Plan, size: int, held: int) -> tuple[str, str]:
    """How much comes from each shard."""
    if plan.summary == "local_centers":
        sent = f"{plan.k} a shard, up to {plan.k * plan.shards:,} in all"
        return "local centers", f"{sent}, solved on {held:,} points a node by {plan.method}"
    if plan.summary == "pca":
        rows = plan.relaxation.sent + plan.affine
        return "sketch", (
            f"{rows:,} rows a shard, up to {rows * plan.shards:,} in all, for r = {plan.r} with slack {plan.delta:g}"
        )
    beside = f", and at most {most_kept(size):,} a shard that may be left out" if plan.outliers else ""
    sent = f"{size:,} points a shard, up to {size * plan.shards:,} in all, by {plan.method}, z = {plan.z:g}{beside}"
    return "coreset", sent


def _candidates(plan: Plan) -> str:
    return f"; {plan.question.candidates:,} candidates for centers" if plan.weak else ""


def _graph(pipeline: beam.Pipeline) -> Tree:
    tree = Tree("graph")

    class Visitor(PipelineVisitor):
        def __init__(self) -> None:
            self.nodes: list[Any] = [tree]

        def _add(self, node: Any) -> Any:
            label = node.full_label.rsplit("/", 1)[-1]
            return self.nodes[-1].add(f"{escape(label)} [dim]{type(node.transform).__name__}[/]")

        def enter_composite_transform(self, node: Any) -> None:
            self.nodes.append(self._add(node) if node.full_label else tree)

        def leave_composite_transform(self, node: Any) -> None:
            self.nodes.pop()

        def visit_transform(self, node: Any) -> None:
            if len(self.nodes) < 4:
                self._add(node)

    pipeline.visit(Visitor())
    return tree
