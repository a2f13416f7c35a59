"""A worker pool for several TaskManagers: `python worker_pool.py PORT`.

Beam's own is for one: every TaskManager calls its worker "1-1", and a pool that is told to stop that one stops the last
that it has started. Here a worker ends when its TaskManager hangs up.
"""
import sys
import threading

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer


class WorkerPool(BeamFnExternalWorkerPoolServicer):
    def StartWorker(self, start_worker_request, unused_context):  # noqa: N802  (the service's name)
        answer = super().StartWorker(start_worker_request, unused_context)
        worker = self._worker_processes.pop(start_worker_request.worker_id, None)
        if worker is not None:
            threading.Thread(target=worker.wait, daemon=True).start()  # a worker that has ended is gone
        return answer

    def StopWorker(self, stop_worker_request, unused_context):  # noqa: N802
        return beam_fn_api_pb2.StopWorkerResponse()


if __name__ == "__main__":
    _, server = WorkerPool.start(use_process=True, port=int(sys.argv[1]))
    server.wait_for_termination()
