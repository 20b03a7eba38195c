"""The load: wrk for HTTP/1.1 and h2load for HTTP/2, each 64 requests at once in a closed loop."""

import pathlib
import re
import subprocess
import time

from processes import Broken
from rows import HOST

AT_ONCE = 64
# Browsers and gRPC clients have a few connections with a few requests on each.
H2_CONNECTIONS = 8

# One line that a program can read; without a function per request the requests are made once.
REPORT = """
done = function(summary)
  local e = summary.errors
  io.write(string.format("counted %d %d %d\\n", summary.requests, summary.bytes,
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""


class Late(Exception):
    """The load itself was kept from running: what it saw was the machine, not the proxy."""


def run(row, port, seconds, directory):
    """Requests answered within so many seconds; none may fail."""
    command = h2load(row, port, seconds) if row.h2 else wrk(row, port, seconds, directory)
    started = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds + 60, check=False)
    # Both end by the clock, whatever the proxy does.
    if time.monotonic() - started > seconds + 0.5:
        raise Late
    said = done.stdout + done.stderr
    counted = counted_by_h2load(said) if row.h2 else counted_by_wrk(said)
    if done.returncode or not counted:
        raise Broken(f"{command[0]} failed:\n{said[-2000:]}")
    requests, size, failed = counted
    if failed or not requests:
        raise Broken(f"{failed or 'all'} requests failed:\n{said[-2000:]}")
    if size < requests * row.body:
        raise Broken(f"{requests} responses had {size} bytes only")
    return requests


def wrk(row, port, seconds, directory):
    script = pathlib.Path(directory) / "report.lua"
    script.write_text(REPORT)
    fields = dict(row.fields) if row.keep_alive else {**row.fields, "Connection": "close"}
    given = [word for name, value in fields.items() for word in ("-H", f"{name}: {value}")]
    scheme = "https" if row.tls else "http"
    return ["wrk", f"-t{row.workers}", f"-c{AT_ONCE}", f"-d{seconds}s", "-s", str(script), *given,
            f"{scheme}://127.0.0.1:{port}/{row.body}"]


def counted_by_wrk(said):
    found = re.search(r"^counted (\d+) (\d+) (\d+)$", said, re.MULTILINE)
    return found and tuple(map(int, found.groups()))


def h2load(row, port, seconds):
    fields = {name.lower(): value for name, value in row.fields.items() if name != "Host"}
    given = [f"--header={name}: {value}" for name, value in fields.items()]
    scheme = "https" if row.tls else "http"
    return ["h2load", f"-t{row.workers}", f"-c{H2_CONNECTIONS}", f"-m{AT_ONCE // H2_CONNECTIONS}",
            f"-D{seconds}", *given, f"--connect-to=127.0.0.1:{port}",
            f"{scheme}://{HOST}:{port}/{row.body}"]


def counted_by_h2load(said):
    requests = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
    data = re.search(r"\((\d+)\) data", said)
    if not (requests and codes and data):
        return None
    succeeded, *failures = map(int, requests.groups())
    _, *others = map(int, codes.groups())
    return succeeded, int(data[1]), sum(failures) + sum(others)
