"""Asks a TaskManager for a job's artifacts, as Beam's boot program does when it starts a worker; the worker pool, which
has none, does not ask. Run beside the TaskManager with a worker's id; prints {name: size, or why not}."""
import contextlib
import json
import pathlib
import sys

import grpc
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
)

Payload = beam_runner_api_pb2.ArtifactStagingToRolePayload
Retrieval = beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub
Provision = beam_provision_api_pb2_grpc.ProvisionServiceStub

LISTEN = "0A"


def listening():
    """Ports of this network that somebody listens on. Boot is told which; here each is tried."""
    lines = "".join(pathlib.Path("/proc/net", name).read_text() for name in ("tcp", "tcp6")).splitlines()
    return sorted({int(words[1].rpartition(":")[2], 16) for words in map(str.split, lines) if words[3] == LISTEN})


def first(ask):
    """What the first port that answers says."""
    for port in listening():
        with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(f"localhost:{port}") as channel:
            return ask(channel)
    sys.exit("nobody answers")


def content(channel, dependency):
    request = beam_artifact_api_pb2.GetArtifactRequest(artifact=dependency)
    try:
        return sum(len(part.data) for part in Retrieval(channel).GetArtifact(request, timeout=10))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise
        return f"{error.code().name}: {error.details()}"


def main(worker):
    who = [("worker_id", worker)]
    asked = beam_provision_api_pb2.GetProvisionInfoRequest()
    answer = first(lambda channel: Provision(channel).GetProvisionInfo(asked, metadata=who, timeout=5))
    wanted = answer.info.dependencies
    resolve = beam_artifact_api_pb2.ResolveArtifactsRequest(artifacts=wanted)

    def fetch(channel):
        stub = Retrieval(channel)
        found = stub.ResolveArtifacts(resolve, metadata=who, timeout=5).replacements
        names = [Payload.FromString(one.role_payload).staged_name for one in found]
        return {name: content(channel, one) for name, one in zip(names, found, strict=True)}

    print(json.dumps(first(fetch)))


if __name__ == "__main__":
    main(sys.argv[1])
