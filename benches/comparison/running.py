"""One proxy at work: started, asked to prove that it does the work, measured under load."""

import contextlib
import http.client
import pathlib
import ssl
import tempfile
import threading
import time
import urllib.request

import load
from peers import Setup
from ports import free_ports
from processes import Broken, Process
from rows import HOST

# Runs in a row that may be disturbed.
DISTURBED = 5


def start(stack, peer, row, directory, endpoints, pem):
    """Starts a proxy and lets it prove that it does the work; `stack` stops it later."""
    running = Running(peer, row, directory, endpoints, pem)
    stack.callback(running.process.stop)
    running.process.wait_for([running.setup.port] + [running.setup.admin] * bool(peer.metrics))
    prove(peer, row, running.setup.port)
    return running


def ask(row, port, host, path):
    """Status and body of one request of HTTP/1.1; no status if there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
        if row.tls:
            connection.sock = trusting().wrap_socket(connection.sock, server_hostname=HOST)
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        return None, str(error).encode()
    finally:
        connection.close()


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def prove(peer, row, port):
    """That this proxy does the work that the others do. Some have no routes yet when they listen."""
    if row.h2 and not row.tls and peer.h2c_only:
        # h2load counts what comes back.
        return
    end = time.monotonic() + 10
    while (answer := ask(row, port, HOST, "/seen"))[0] != 200 and time.monotonic() < end:
        time.sleep(0.05)
    status, seen = answer
    # Envoy writes the machine's own address in place of a loopback one.
    if status != 200 or seen.count(b".") != 3:
        raise Broken(f"did not add X-Forwarded-For: {status}, {seen!r}")
    status, body = ask(row, port, HOST, f"/{row.body}")
    if (status, len(body)) != (200, row.body):
        raise Broken(f"answered {status} with {len(body)} bytes")
    if peer.routes_by_host and (status := ask(row, port, "other.example.com", "/seen")[0]) not in (404, 421):
        raise Broken(f"answered {status} for a host that is not routed")


class Running:
    """A proxy that runs, for one row."""

    def __init__(self, peer, row, directory, endpoints, pem):
        self.peer, self.row = peer, row
        place = pathlib.Path(tempfile.mkdtemp(prefix=f"{row.name}-", dir=directory))
        port, admin = free_ports(2)
        self.setup = Setup(row, place, port, admin, endpoints[:row.endpoints], pem)
        self.process = Process(peer.name, peer.command(self.setup), place, peer.environment_of(row))

    def measure(self, seconds, directory):
        """Sends load; nanoseconds of CPU per request. A run that the machine disturbed does not count."""
        for _ in range(DISTURBED):
            with contextlib.suppress(load.Late):
                return self.measure_once(seconds, directory)
        raise Broken("this machine is too busy for the load")

    def measure_once(self, seconds, directory):
        logged = lines(self.setup.log)
        with self.scraped():
            before = self.process.cpu()
            requests = load.run(self.row, self.setup.port, seconds, directory)
            if self.row.log:
                # Some write a second later, and that counts as well.
                time.sleep(1.5)
            cost = (self.process.cpu() - before) / requests
        if self.row.log and (written := lines(self.setup.log) - logged) < requests * 9 // 10:
            raise Broken(f"{written} lines in the access log after {requests} requests")
        return cost

    @contextlib.contextmanager
    def scraped(self):
        """Reads the metrics every second meanwhile, if the row wants that."""
        if not (self.row.metrics and self.peer.metrics):
            yield
            return
        over, failures = threading.Event(), []
        thread = threading.Thread(target=self.scrape, args=[over, failures])
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failures:
            raise Broken(f"metrics could not be read: {failures[0]}")

    def scrape(self, over, failures):
        address = f"http://127.0.0.1:{self.setup.admin}{self.peer.metrics}"
        while not failures:
            try:
                with urllib.request.urlopen(address, timeout=5) as response:
                    response.read()
            except OSError as error:
                failures.append(error)
            if over.wait(1):
                break


def lines(path):
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
