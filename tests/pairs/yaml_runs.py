"""`SummarizeInYaml`, and with it `Summarize(Plan(...), Columns(...))`, as if it were a command with these options."""
import sys

import apache_beam as beam
import option_values
from apache_beam.options.pipeline_options import PipelineOptions

from beam_coresets.declared import add_parameters
from beam_coresets.pipelines.console.command_line import Parser
from beam_coresets.pipelines.running.launch import first_cause
from beam_coresets.pipelines.running.local import IN_PROCESS
from beam_coresets.transforms.yaml_transforms import SummarizeInYaml, YamlBatchOptions

_FOUND = {}


def main(words):
    """Runs the transform over the rows of `table_of_points`; returns the exit code that a command would have."""
    parser = Parser(allow_abbrev=False)
    add_parameters(parser, YamlBatchOptions)
    options = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(parser.parse_args(words)).items()}
    try:
        transform = SummarizeInYaml(**options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = option_values.table_of_points().to_pylist()
    pipeline = beam.Pipeline(options=PipelineOptions([f"--runner={IN_PROCESS}"]))
    try:
        for name, collection in (pipeline | beam.Create(rows) | transform).items():
            _FOUND[name] = []
            _ = collection | f"Collect {name}" >> beam.Map(_keep, name)
        pipeline.run().wait_until_finish()
    except Exception as error:
        print(f"error: {first_cause(error)}", file=sys.stderr)
        return 1
    (summary,) = _FOUND["summaries"]
    good = len(rows) - len(_FOUND["dead_letters"])
    assert summary.points == good or (summary.points < good and summary.coverage < 1), (summary.points, good)
    assert not any(value != value for row in _FOUND["centers"] for value in (row.weight, *row.coordinates))
    return 0


def _keep(row, name):
    _FOUND[name].append(row)
