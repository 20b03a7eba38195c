"""A replica that answers each request with what it was told, as JSON: replica.py [CERTIFICATE]

It prints its port, and with a certificate that of a second one, on which it speaks TLS.
"""

import asyncio
import json
import ssl
import sys


class Replica(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        # Only GET is asked here, without a body.
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            line, *lines = head.decode("latin-1").split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in
                      (line.partition(":") for line in lines)}
            told = {"target": line.split()[1], "host": fields.get("host"),
                    "proto": fields.get("x-forwarded-proto")}
            if "x-forwarded-client-cert" in fields:
                told["client"] = fields["x-forwarded-client-cert"]
            if self.transport.get_extra_info("ssl_object"):
                told["inner"] = self.transport.get_extra_info("ssl_object").version()
            body = json.dumps(told).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                 b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


async def main(certificate=None):
    contexts = [None]
    if certificate:
        contexts.append(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        contexts[1].load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Replica, "127.0.0.1", 0, ssl=it) for it in contexts]
    for server in servers:
        print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main(*sys.argv[1:]))
