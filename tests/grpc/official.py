"""gRPC's official client and server for Go, directly and through an edge: official.py TOOLS PROGRAM

TOOLS has google.golang.org/grpc/interop/client and .../server. They speak grpc.testing.TestService, of which the peers
of `interop.py` know nothing. What passes directly must pass through the edge. Left out are cases with accounts of
Google's, and `pick_first_unary`, which asks for a name that this server does not tell. The client's own case of a
deadline gives it a millisecond, and ends before there is a connection: `short_deadlines`, by gRPC's C library, is for
those that the server sees, and keeps.
"""

import collections
import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from authority import Authority
from edge import Edge
from interop import show
from library import channel_to
from ports import free_ports, is_free

CASES = (
    "empty_unary large_unary client_streaming server_streaming ping_pong empty_stream timeout_on_sleeping_server"
    " cancel_after_begin cancel_after_first_response status_code_and_message special_status_message custom_metadata"
    " unimplemented_method unimplemented_service orca_per_rpc orca_oob rpc_soak channel_soak").split()
LISTENERS = """
[tls]
certificates = ["{directory}"]
[listeners.plain]
address = "127.0.0.1:0"
[listeners.tls]
address = "127.0.0.1:0"
tls = true
[listeners.both]
address = "127.0.0.1:0"
tls = true
"""
SERVICES = """
[services.plain]
endpoints = ["127.0.0.1:{plain}"]
hiveway.protocol = "grpc"
hiveway.listener = "plain,tls"
[services.both]
endpoints = ["127.0.0.1:{tls}"]
hiveway.protocol = "grpcs"
hiveway.listener = "both"
hiveway.upstream-tls.ca = "root.pem"
hiveway.upstream-tls.server-name = "interop.test"
"""
# The reports of a server's load, which `orca_*` are about, are read by this balancer alone.
BALANCER = '{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}'
# 50 large calls, 5 at once; how long they take is not asked here.
SOAK = ["-soak_iterations=50", "-soak_num_threads=5", "-soak_overall_timeout_seconds=50",
        "-soak_per_iteration_max_acceptable_latency_ms=50000"]
# A request for one byte after a second, as StreamingOutputCallRequest.
LATER = bytes.fromhex("12 06 08 01 10 c0 84 3d")


def run(client, case, address, root=None):
    """What was wrong, or nothing."""
    host, port = address.split(":")
    words = [client, f"-test_case={case}", f"-server_host={host}", f"-server_port={port}", *SOAK]
    if case.startswith("orca"):
        words.append(f"-service_config_json={BALANCER}")
    if root:
        words += ["-use_tls", "-use_test_ca", f"-ca_file={root}", "-server_host_override=interop.test"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "it did not end within 60 s"
    return " ".join(done.stderr.split()) or "it said nothing" if done.returncode else None


def short_deadlines(address, root=None):
    """A server that keeps a deadline cancels the stream, and may be quicker than the client itself."""
    with channel_to(address, root) as channel:
        calls = channel.unary_stream("/grpc.testing.TestService/StreamingOutputCall")
        codes = collections.Counter(calls(LATER, timeout=0.01).code().name for _ in range(200))
    wrong = {name: count for name, count in codes.items() if name not in ("DEADLINE_EXCEEDED", "CANCELLED")}
    return f"of 200 calls {wrong}" if wrong else None


@contextlib.contextmanager
def server(program, *words):
    port, = free_ports(1)
    process = subprocess.Popen([program, f"-port={port}", *words])
    try:
        until_it_listens(process, port)
        yield port
    finally:
        process.kill()
        process.wait()


def until_it_listens(process, port):
    while is_free(port):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        time.sleep(0.05)


def outcomes(tools, program):
    """Yields each way, and what came of each case."""
    with contextlib.ExitStack() as stack:
        authority = Authority(stack.enter_context(tempfile.TemporaryDirectory()))
        authority.issue("interop.pem", "interop.test")
        # Whom the edge believes behind it is read from where its own certificates are.
        shutil.copy(authority.root, authority.served)
        own = authority.served / "interop.pem"
        plain = stack.enter_context(server(tools / "server"))
        tls = stack.enter_context(server(
            tools / "server", "-use_tls", f"-tls_cert_file={own}", f"-tls_key_file={own}"))
        services = SERVICES.format(plain=plain, tls=tls)
        options = LISTENERS.format(directory=authority.served)
        edge = stack.enter_context(Edge(program, services, options, ("plain", "tls", "both")))
        ways = {
            "directly": (f"127.0.0.1:{plain}", None),
            "directly with TLS": (f"127.0.0.1:{tls}", authority.root),
            "through the edge": (edge.addresses["plain"], None),
            "TLS to the edge": (edge.addresses["tls"], authority.root),
            "TLS on both sides of it": (edge.addresses["both"], authority.root),
        }
        for way, to in ways.items():
            found = {case: run(tools / "client", case, *to) for case in CASES}
            yield way, {**found, "short_deadlines": short_deadlines(*to)}


if __name__ == "__main__":
    show(outcomes(pathlib.Path(sys.argv[1]), sys.argv[2]))
