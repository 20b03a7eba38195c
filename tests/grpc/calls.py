"""The C library of gRPC on both sides of an edge: calls.py PROGRAM

It is the strictest of the common ones: it refuses requests without `te: trailers`, and reads every
stream that ends without a status as an error of its own.
"""

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import grpc

from authority import Authority
from edge import Edge

BYTES = bytes(range(256))
LONG = "x" * 6000
LARGEST = 1 << 20


def wait_for_the_end(context):
    ended, started = threading.Event(), time.monotonic()
    context.add_callback(ended.set)
    ended.wait(20)
    print("ended", time.monotonic() - started, flush=True)


def unary(request, context):
    if request == b"details":
        context.set_trailing_metadata((("grpc-status-details-bin", BYTES),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "fünfzig %")
    if request == b"metadata":
        given = dict(context.invocation_metadata())
        context.send_initial_metadata((("long", given["long"]), ("raw-bin", given["raw-bin"])))
    if request == b"deadline":
        return b"%f" % context.time_remaining()
    if request == b"wait":
        wait_for_the_end(context)
    return request


def server_stream(request, context):
    if request == b"wait":
        yield b"one"
        wait_for_the_end(context)
        return
    for number in range(int(request)):
        yield b"%d" % number


class Service(grpc.GenericRpcHandler):
    def service(self, call):
        return {
            "/shop.Shop/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/shop.Shop/Up": grpc.stream_unary_rpc_method_handler(
                lambda messages, _: b"%d" % sum(map(len, messages))),
            "/shop.Shop/Down": grpc.unary_stream_rpc_method_handler(server_stream),
            "/shop.Shop/Both": grpc.stream_stream_rpc_method_handler(
                lambda messages, _: messages),
        }.get(call.method)


def serve(certificate=None):
    options = [
        ("grpc.max_receive_message_length", LARGEST),
        ("grpc.max_metadata_size", 1 << 16), ("grpc.absolute_max_metadata_size", 1 << 16),
    ]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=options)
    server.add_generic_rpc_handlers((Service(),))
    if certificate:
        pem = pathlib.Path(certificate).read_bytes()
        shown = grpc.ssl_server_credentials([(pem, pem)])
        port = server.add_secure_port("127.0.0.1:0", shown)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


class Replica:
    """A server in a process of its own, so that it can be killed; with a certificate it speaks TLS."""

    def __init__(self, certificate=None):
        command = [sys.executable, __file__, "--serve", *filter(None, [certificate])]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = f"127.0.0.1:{int(self.process.stdout.readline())}"


def failure(call):
    """The code and details that a call fails with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details(), dict(error.trailing_metadata() or ())
    return "OK", "", {}


def check(address, replica):
    channel = grpc.insecure_channel(address, options=[("grpc.max_metadata_size", 1 << 16)])
    call = channel.unary_unary("/shop.Shop/Unary")
    up, down = channel.stream_unary("/shop.Shop/Up"), channel.unary_stream("/shop.Shop/Down")
    both = channel.stream_stream("/shop.Shop/Both")

    assert call(b"hello", timeout=10) == b"hello"
    assert up(b"x" * 1000 for _ in range(500)) == b"500000"
    assert list(down(b"2000")) == [b"%d" % number for number in range(2000)]
    assert list(both(b"%d" % number for number in range(500))) == [b"%d" % n for n in range(500)]

    code, details, trailers = failure(lambda: call(b"details"))
    assert (code, details) == ("FAILED_PRECONDITION", "fünfzig %"), (code, details)
    assert trailers["grpc-status-details-bin"] == BYTES
    code, details, _ = failure(lambda: call(b"x" * (LARGEST + 1)))
    assert code == "RESOURCE_EXHAUSTED" and "larger than max" in details, (code, details)
    assert failure(lambda: channel.unary_unary("/shop.Shop/None")(b""))[0] == "UNIMPLEMENTED"
    _, answered = call.with_call(b"metadata", metadata=(("long", LONG), ("raw-bin", BYTES)))
    metadata = dict(answered.initial_metadata())
    assert metadata["long"] == LONG and metadata["raw-bin"] == BYTES
    # The library adds some of its own to the deadline.
    assert 8 < float(call(b"deadline", timeout=10)) < 11

    def ended():
        return float(replica.process.stdout.readline().removeprefix("ended "))

    assert failure(lambda: call(b"wait", timeout=0.5))[0] == "DEADLINE_EXCEEDED"
    assert ended() < 2
    for begun in (call.future(b"wait"), down(b"wait")):
        time.sleep(0.3)
        begun.cancel()
        assert ended() < 2

    streams = [down(b"wait") for _ in range(10)]
    assert all(next(stream) == b"one" for stream in streams)
    os.kill(replica.process.pid, signal.SIGKILL)
    for stream in streams:
        code, details, _ = failure(lambda: list(stream))
        assert code == "UNAVAILABLE" and details.startswith("the replica's response"), (code, details)
    code, details, _ = failure(lambda: call(b"hello"))
    assert code == "UNAVAILABLE" and details.endswith(("(no_endpoint)", "(reset)")), (code, details)


SERVICES = """
[services.shop]
endpoints = ["{address}"]
hiveway.timeout.queue = "1s"
hiveway.protocol = "{protocol}"
"""
TRUST = """
hiveway.upstream-tls.ca = "root.pem"
hiveway.upstream-tls.server-name = "calls.test"
"""


def run(program, replica, protocol, options=""):
    services = SERVICES.format(address=replica.address, protocol=protocol)
    try:
        with Edge(program, services + (TRUST if options else ""), options) as edge:
            check(edge.address, replica)
    finally:
        replica.process.kill()


def main(program):
    run(program, Replica(), "grpc")
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(directory)
        authority.issue("calls.pem", "calls.test")
        options = f'[tls]\ncertificates = ["{authority.root}"]\n'
        run(program, Replica(authority.served / "calls.pem"), "grpcs", options)
    print("all calls went as they should, in clear text and over TLS")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(*sys.argv[2:])
    else:
        main(sys.argv[1])
