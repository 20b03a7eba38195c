"""The cases of `interop.py` with gRPC's C library at either end: library.py serve, library.py call URL [ROOT]

Method by method and case by case the same as examples/interop. Messages are bytes, and what is wanted of a call
stands in its metadata.
"""

import concurrent.futures
import pathlib
import queue
import sys
import threading
import time

import grpc

DETAILS = bytes(range(256))
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
SIZES = [31415, 9, 2653, 58979]
MEGABYTE = 1 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 16), ("grpc.absolute_max_metadata_size", 1 << 16),
]
asleep = set()


def end_as_wanted(given, context):
    if "status" in given:
        context.set_trailing_metadata((("details-bin", DETAILS),))
        codes = {code.value[0]: code for code in grpc.StatusCode}
        context.abort(codes[int(given["status"])], given["said-bin"].decode())


def unary(message, context):
    given = dict(context.invocation_metadata())
    end_as_wanted(given, context)
    if "asleep" in given:
        return b"%d" % len(asleep)
    context.set_compression(grpc.Compression.Gzip if "gzip" in given else grpc.Compression.NoCompression)
    echo = tuple((name, given[name]) for name in ("echo", "echo-bin") if name in given)
    context.send_initial_metadata(echo)
    return bytes(int(given["size"])) if "size" in given else message


def down(_message, context):
    for size in dict(context.invocation_metadata())["sizes"].split(","):
        yield bytes(int(size))


def both(messages, context):
    for message in messages:
        yield bytes(int(message))
    end_as_wanted(dict(context.invocation_metadata()), context)


def sleep(_messages, context):
    over = threading.Event()
    context.add_callback(over.set)
    asleep.add(context)
    over.wait(30)
    asleep.discard(context)
    yield from ()


class Service(grpc.GenericRpcHandler):
    def service(self, call):
        return {
            "/test.Interop/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/test.Interop/Up": grpc.stream_unary_rpc_method_handler(
                lambda messages, _: b"%d" % sum(map(len, messages))),
            "/test.Interop/Down": grpc.unary_stream_rpc_method_handler(down),
            "/test.Interop/Both": grpc.stream_stream_rpc_method_handler(both),
            "/test.Interop/Sleep": grpc.stream_stream_rpc_method_handler(sleep),
        }.get(call.method)


def serve():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(128), options=OPTIONS)
    server.add_generic_rpc_handlers((Service(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


class Cases:
    def __init__(self, channel):
        self.channel = channel
        self.unary, self.up = channel.unary_unary("/test.Interop/Unary"), channel.stream_unary("/test.Interop/Up")
        self.down = channel.unary_stream("/test.Interop/Down")
        self.both = channel.stream_stream("/test.Interop/Both")
        self.sleep = channel.stream_stream("/test.Interop/Sleep")

    def sized(self, sent, back=None, **options):
        metadata = () if back is None else (("size", str(back)),)
        answer = self.unary(bytes(sent), metadata=metadata, timeout=60, **options)
        assert len(answer) == (sent if back is None else back), len(answer)

    def empty_unary(self):
        self.sized(0)

    def large_unary(self):
        self.sized(271_828, 314_159)

    def client_compressed_unary(self):
        self.sized(271_828, compression=grpc.Compression.Gzip)

    def server_compressed_unary(self):
        answer = self.unary(b"", metadata=(("size", "314159"), ("gzip", "1")), timeout=10)
        assert len(answer) == 314_159

    def concurrent_large_unary(self):
        calls = [self.unary.future(bytes(271_828), metadata=(("size", "314159"),), timeout=60) for _ in range(100)]
        assert all(len(call.result()) == 314_159 for call in calls)

    def message_of_4_mb(self):
        self.sized(4 * MEGABYTE)

    def message_of_64_mb(self):
        self.sized(64 * MEGABYTE)

    def client_streaming(self):
        answer = self.up((bytes(size) for size in (27182, 8, 1828, 45904)), timeout=10)
        assert answer == b"74922", answer

    def server_streaming(self):
        sizes = ",".join(map(str, SIZES))
        assert [len(answer) for answer in self.down(b"", metadata=(("sizes", sizes),), timeout=10)] == SIZES

    def ping_pong(self):
        messages = queue.SimpleQueue()
        answers = self.both(iter(messages.get, None), timeout=10)
        for size in [1, *SIZES]:
            messages.put(b"%d" % size)
            assert len(next(answers)) == size
        messages.put(None)
        assert list(answers) == []

    def empty_stream(self):
        assert list(self.both(iter(()), timeout=10)) == []

    def tiny_messages(self):
        assert list(self.both((b"1" for _ in range(10_000)), timeout=60)) == [b"\0"] * 10_000

    def timeout_on_sleeping_server(self):
        code = self.failure(lambda: list(self.sleep(iter([b""]), timeout=0.1))).code()
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
        self.nobody_asleep()

    def cancel_after_begin(self):
        call = self.sleep(iter(queue.SimpleQueue().get, None))
        time.sleep(0.2)
        call.cancel()
        assert call.code() == grpc.StatusCode.CANCELLED
        self.nobody_asleep()

    def cancel_after_first_response(self):
        messages = queue.SimpleQueue()
        messages.put(b"9")
        call = self.both(iter(messages.get, None))
        assert len(next(call)) == 9
        call.cancel()
        assert call.code() == grpc.StatusCode.CANCELLED
        messages.put(None)

    def nobody_asleep(self):
        for _ in range(20):
            if (answer := self.unary(b"", metadata=(("asleep", "1"),), timeout=10)) == b"0":
                return
            time.sleep(0.05)
        raise AssertionError(f"{answer} calls are still open at the server")

    def failure(self, call):
        try:
            call()
        except grpc.RpcError as error:
            return error
        raise AssertionError("it went well")

    def status(self, message):
        metadata = (("status", "2"), ("said-bin", message.encode()))
        for call in (lambda: self.unary(b"", metadata=metadata, timeout=10),
                     lambda: list(self.both(iter(()), metadata=metadata, timeout=10))):
            failed = self.failure(call)
            assert (failed.code(), failed.details()) == (grpc.StatusCode.UNKNOWN, message), failed
            assert dict(failed.trailing_metadata())["details-bin"] == DETAILS

    def status_code_and_message(self):
        self.status("test status message")

    def special_status_message(self):
        self.status(SPECIAL)

    def metadata(self, text):
        sent = (("echo", text), ("echo-bin", b"\xab\0\xff"))
        _, call = self.unary.with_call(b"", metadata=sent, timeout=10)
        found = dict(call.initial_metadata())
        assert (found["echo"], found["echo-bin"]) == (text, b"\xab\0\xff"), found

    def custom_metadata(self):
        self.metadata("test_initial_metadata_value")

    def large_metadata(self):
        self.metadata("x" * 20_000)

    def unimplemented(self, path):
        code = self.failure(lambda: self.channel.unary_unary(path)(b"", timeout=10)).code()
        assert code == grpc.StatusCode.UNIMPLEMENTED, code

    def unimplemented_method(self):
        self.unimplemented("/test.Interop/None")

    def unimplemented_service(self):
        self.unimplemented("/test.None/Unary")


CASES = (
    "empty_unary large_unary client_compressed_unary server_compressed_unary concurrent_large_unary message_of_4_mb"
    " message_of_64_mb client_streaming server_streaming ping_pong empty_stream tiny_messages"
    " timeout_on_sleeping_server cancel_after_begin cancel_after_first_response status_code_and_message"
    " special_status_message custom_metadata large_metadata unimplemented_method unimplemented_service").split()


def channel_to(target, root=None):
    if not root:
        return grpc.insecure_channel(target, options=OPTIONS)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(root).read_bytes())
    named = [*OPTIONS, ("grpc.ssl_target_name_override", "interop.test")]
    return grpc.secure_channel(target, credentials, options=named)


def call(url, root=None):
    cases = Cases(channel_to(url.split("//")[1], root))
    for name in CASES:
        try:
            getattr(cases, name)()
            print(name, "ok", flush=True)
        except (AssertionError, grpc.RpcError) as error:
            print(name, "FAILED:", " ".join(str(error).split()), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(*sys.argv[2:])
