"""The laptop's broker, once: refused before anything is formatted while another one has its ports or its data.

    python templates/kafka/broker/run.py JARS [server.properties]     # what `make broker` runs

Formatting and starting over a running broker's data corrupts them, and the port in use is noticed after that only.
"""
import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import subprocess
import sys

SETTINGS = str(pathlib.Path(__file__).with_name("server.properties"))


def settings(path):
    """Name -> value of a properties file."""
    lines = (line.strip() for line in pathlib.Path(path).read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def require_free(data, listeners):
    """Raises ValueError where another broker has the data or a port."""
    with contextlib.suppress(FileNotFoundError), open(data / ".lock", "r+b") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # what a broker holds while it runs
        except OSError:
            raise ValueError(f"log.dirs: must be no running broker's, got {data}") from None
    for listener in listeners.split(","):
        host, port = listener.split("://")[1].rsplit(":", 1)
        for family, kind, protocol, _, address in socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as brokers do: only listeners count
                try:
                    probe.bind(address)
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        raise ValueError(f"listeners: must have port {port} free, got it taken") from None


def held(data):
    """Takes a lock beside the data that lasts as long as this process, and whatever it becomes.

    Raises:
      ValueError: another process has it.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{data}.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"log.dirs: must be no running broker's, got {data}") from None
    os.set_inheritable(lock, True)


def main(jars, properties=SETTINGS):
    """Formats the data, unless it is, and becomes the broker; 1 where another one is."""
    found = settings(properties)
    data = pathlib.Path(found["log.dirs"])
    try:
        held(data)
        require_free(data, found["listeners"])
    except ValueError as error:
        print(f"error: {error}; is a broker running already?", file=sys.stderr)
        return 1
    java = ["java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*"]
    form = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", "beam-coresets-laptop-x"]
    if code := subprocess.run([*form, "-c", properties], check=False).returncode:
        return code
    print(f"broker on {found['listeners'].split(',')[0].split('://')[1]}; stop it with Ctrl-C", flush=True)
    os.execvp("java", [*java, "kafka.Kafka", properties])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
