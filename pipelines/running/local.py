"""The runner in this process, which is the default."""
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

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
        if options.view_as(DirectOptions).direct_num_workers != 1:
            _send_whole_elements()
    return options


def _send_whole_elements() -> None:
    """Where there are several workers, Beam sends what is in their buffers once a second, also the first half of an
    element that is being encoded, which the reader then can't decode. Without the clock a buffer is sent when it is
    full, or when its bundle ends."""
    from apache_beam.runners.portability.fn_api_runner import worker_handlers  # late: 0.1 s to import

    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
