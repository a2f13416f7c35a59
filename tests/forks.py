"""Work in forks of this process, which has imported and compiled all of it: a command then takes a fraction of a second
in place of several."""
import contextlib
import os
import pathlib
import resource
import signal
import sys
import time
import traceback

from beam_coresets.pipelines.main import main

RAISED = 77  # the exit code of work that raised


class Fork:
    """Work that goes on in a fork, in a process group of its own; what it prints is in files `out` and `err`.

    Args:
      work: is called there without arguments; its result is the exit code.
      folder: gets the files, and is made if it is not there.
    """

    def __init__(self, work, folder):
        self._files = [pathlib.Path(folder, name) for name in ("out", "err")]
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        for path in self._files:
            path.write_text("")
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._go(work)

    def _go(self, work):
        code = RAISED
        try:
            os.setsid()
            for number, path in enumerate(self._files, 1):
                os.dup2(os.open(path, os.O_WRONLY), number)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            code = work()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)

    @property
    def over(self):
        """Whether it has ended; `wait` still tells how."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self):
        """Kills it, and nothing that it has started."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds=120):
        """Its exit code, negative for a signal, -SIGALRM if it went on for so long; what it has started ends, too."""
        until = time.monotonic() + seconds
        while not self.over and time.monotonic() < until:
            time.sleep(0.01)
        hangs = not self.over
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return -signal.SIGALRM if hangs else code

    @property
    def out(self):
        """What it has printed."""
        return self._files[0].read_text(errors="replace")

    @property
    def err(self):
        """What it has printed as an error."""
        return self._files[1].read_text(errors="replace")


def typed(words):
    """Work for a fork: a command as a shell starts it, which ends the process itself."""

    def work():
        sys.argv[1:] = [str(word) for word in words]
        return main()

    return work
