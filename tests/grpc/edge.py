"""An edge that runs beside a test, with services from a file, on ports that the kernel picks."""

import json
import pathlib
import subprocess
import tempfile
import urllib.request

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
    """`with Edge(program, services) as edge`: `edge.address` is where calls go."""

    def __init__(self, program, services):
        self.directory = tempfile.TemporaryDirectory()
        place = pathlib.Path(self.directory.name)
        (place / "hiveway.toml").write_text(CONFIG)
        (place / "services.toml").write_text(services)
        self.process = subprocess.Popen(
            [program, "edge", "--config", place / "hiveway.toml"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.log = []

    def __enter__(self):
        for line in self.process.stdout:
            self.log.append(line)
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("message") == "listening" and said.get("listener") == "web":
                self.address = said["address"]
                return self
        raise SystemExit("the edge did not start:\n" + "".join(self.log))

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=10)
        self.directory.cleanup()
