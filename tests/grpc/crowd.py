"""Ten thousand streams at once on ten connections through an edge: crowd.py TONIC PROGRAM

TONIC is examples/interop, client and server. Prints how quick they were, and how much memory the edge took.
"""

import pathlib
import re
import subprocess
import sys

from edge import Edge
from interop import server

SERVICES = """
[services.crowd]
endpoints = ["127.0.0.1:{port}"]
hiveway.protocol = "grpc"
"""


def memory(pid, what):
    """Of a process, in MB: `VmRSS` now, `VmHWM` at most."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1000


def main(tonic, program):
    with server("tonic", tonic) as port, Edge(program, SERVICES.format(port=port)) as edge:
        before = memory(edge.process.pid, "VmRSS")
        done = subprocess.run([tonic, "crowd", f"http://{edge.address}"], capture_output=True, text=True, timeout=240,
                              check=False)
        most = memory(edge.process.pid, "VmHWM")
    print(done.stdout + done.stderr, end="")
    if done.returncode:
        raise SystemExit("not all streams came through")
    print(f"memory of the edge: {before:.0f} MB before, {most:.0f} MB at most")
    # Each stream may hold 32 KiB in each direction, and most hold nothing.
    if most > before + 400:
        raise SystemExit("that is too much")


if __name__ == "__main__":
    main(*sys.argv[1:])
