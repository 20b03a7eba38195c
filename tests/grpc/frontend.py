"""A replica that passes calls on, by gRPC's C library: frontend.py SERVER PORT

On SIGTERM it does what a frontend of Temporal does: it says that it is not well, then GOAWAY, and ends when its
calls have ended. It tells its port on its first line.
"""

import asyncio
import functools
import signal
import sys

import grpc

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
# Long enough for every edge to have asked.
NOTICE = 2
# As long as a poll may take.
GRACE = 75
# What the library writes itself.
OWN = ("user-agent", "grpc-", "content-type", "te", ":")


class Frontend(grpc.GenericRpcHandler):
    def __init__(self, channel):
        self.channel, self.health = channel, SERVING

    def service(self, call):
        if call.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self.check)
        return grpc.unary_unary_rpc_method_handler(functools.partial(self.forward, call.method))

    async def check(self, _request, _context):
        return self.health

    async def forward(self, method, request, context):
        metadata = [pair for pair in context.invocation_metadata() if not pair[0].startswith(OWN)]
        try:
            passed_on = self.channel.unary_unary(method)
            return await passed_on(request, metadata=metadata, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details(), tuple(error.trailing_metadata() or ()))


async def serve(server, port):
    frontend = Frontend(grpc.aio.insecure_channel(server))
    listening = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    listening.add_generic_rpc_handlers((frontend,))
    port = listening.add_insecure_port(f"127.0.0.1:{port}")
    await listening.start()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print(port, flush=True)
    await told.wait()
    frontend.health = NOT_SERVING
    await asyncio.sleep(NOTICE)
    await listening.stop(GRACE)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2]))
