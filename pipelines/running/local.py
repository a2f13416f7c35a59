"""The runner in this process, which is the default."""
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

IN_PROCESS = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"  # older Beams do not know its short name


def is_local(options: PipelineOptions) -> bool:
    """Whether a job runs in Python, on this machine."""
    return options.view_as(StandardOptions).runner in (None, "DirectRunner", "direct", "FnApiRunner", IN_PROCESS)


def local_by_default(options: PipelineOptions) -> PipelineOptions:
    """DirectRunner (and no runner at all) means the in-process one: the others that it may choose fetch a binary or
    crawl."""
    standard = options.view_as(StandardOptions)
    if is_local(options):
        standard.runner = IN_PROCESS
    return options
