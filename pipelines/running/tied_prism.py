"""Prism as a child that does not outlive this process."""
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.job_server import StopOnExitJobServer
from apache_beam.runners.portability.prism_runner import PrismJobServer, PrismRunner
from apache_beam.utils.shared import Shared

from beam_coresets.pipelines.running import ending


class TiedPrismRunner(PrismRunner):
    """Beam's, whose server ends with this process even if that is killed; one server for all jobs."""

    _server = Shared()

    def default_job_server(self, options: PipelineOptions) -> Any:
        return self._server.acquire(lambda: StopOnExitJobServer(_TiedServer(options)))


class _TiedServer(PrismJobServer):
    def subprocess_cmd_and_endpoint(self) -> tuple[list[Any], str]:
        (program, *arguments), endpoint = super().subprocess_cmd_and_endpoint()
        program, before = ending.tied(program)
        return [program, *before, *arguments], endpoint
