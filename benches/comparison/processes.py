"""Processes that the comparison starts: each is ended by its id; and the CPU time that they took."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time


class Broken(Exception):
    """A proxy does not do the work that is measured."""


def family(pid):
    """A process and all that came from it and still run."""
    pids = [pid]
    for pid in pids:
        for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids.extend(int(child) for child in children.read_text().split())
    return pids


class Process:
    """A program that runs until `stop`; what it says goes to a file."""

    def __init__(self, name, command, directory, environment=None):
        self.name, self.said = name, pathlib.Path(directory) / "said"
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT, cwd=directory, env={**os.environ, **(environment or {})})

    def wait_for(self, ports):
        """Until it accepts connections on all of these ports."""
        end = time.monotonic() + 30
        for port in ports:
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Broken(f"{self.name} did not start:\n{self.said.read_text()[-3000:]}")
                time.sleep(0.02)

    def cpu(self):
        """Nanoseconds on a CPU so far, of all of its threads, as the kernel's scheduler counts them."""
        total = 0
        for pid in family(self.process.pid):
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total

    def stop(self):
        if self.process.poll() is None:
            pids = family(self.process.pid)
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
                self.process.wait()
