"""An edge that runs beside a test, with services from a file, on ports that the kernel picks."""

import json
import pathlib
import subprocess
import tempfile
import threading

CONFIG = """
[runtime]
workers = 1
[listeners.web]
address = "127.0.0.1:0"
max-streams = 10000
[admin]
address = "127.0.0.1:0"
[log]
format = "json"
access = false
[drain]
delay = "0s"
timeout = "1s"
[provider]
kind = "file"
path = "services.toml"
"""


class Edge:
    """`with Edge(program, services) as edge`: `edge.address` is where requests go.

    Further listeners stand in `options`; `addresses` has all of them by name.
    """

    def __init__(self, program, services, options="", listeners=("web",)):
        self.directory = tempfile.TemporaryDirectory()
        place = pathlib.Path(self.directory.name)
        (place / "hiveway.toml").write_text(CONFIG + options)
        (place / "services.toml").write_text(services)
        self.process = subprocess.Popen(
            [program, "edge", "--config", place / "hiveway.toml"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.log, self.addresses, self.listeners = [], {}, listeners

    def __enter__(self):
        for line in self.process.stdout:
            self.log.append(line)
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("message") == "listening":
                self.addresses[said["listener"]] = said["address"]
            if all(name in self.addresses for name in self.listeners):
                self.address = self.addresses[self.listeners[0]]
                # Nobody may have to wait for somebody to read what is logged.
                threading.Thread(target=self.log.extend, args=(self.process.stdout,)).start()
                return self
        raise SystemExit("the edge did not start:\n" + "".join(self.log))

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=10)
        self.directory.cleanup()
