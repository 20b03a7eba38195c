"""Requests at a steady rate, over new connections and kept ones, by HTTP/1.1 and HTTP/2."""

import asyncio
import time

import h2.connection
import h2.events

# Requests on connections of their own that are under way at once.
SEATS = 32


class Http1:
    protocol = "http/1.1"

    def __init__(self, reader, writer, host):
        self.reader, self.writer, self.host = reader, writer, host

    async def get(self, path):
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await self.reader.readexactly(length)
        return int(head.split()[1]), body


class Http2:
    protocol = "h2"

    def __init__(self, reader, writer, host):
        self.reader, self.writer, self.host = reader, writer, host
        self.state = h2.connection.H2Connection()
        self.state.initiate_connection()

    async def get(self, path):
        stream = self.state.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", self.host), (":path", path)]
        self.state.send_headers(stream, head, end_stream=True)
        status, body = 0, b""
        while True:
            self.writer.write(self.state.data_to_send())
            data = await self.reader.read(1 << 16)
            if not data:
                raise ConnectionError("closed")
            for event in self.state.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                    self.state.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id)
                elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    raise ConnectionError(str(event))
                elif isinstance(event, h2.events.StreamEnded):
                    return status, body


class Load:
    """Counts; every failure is kept with its time since the start."""

    def __init__(self, address, host, authority):
        self.place, self.port = address.rsplit(":", 1)
        self.host, self.authority = host, authority
        self.contexts = {kind: authority.context(kind.protocol) for kind in (Http1, Http2)}
        self.done, self.failures, self.started = 0, [], time.monotonic()
        self.ending = False

    async def connect(self, kind):
        reader, writer = await asyncio.open_connection(
            self.place, int(self.port), ssl=self.contexts[kind], server_hostname=self.host)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == kind.protocol
        return kind(reader, writer, self.host)

    async def ask(self, connection):
        status, body = await connection.get("/x")
        assert status == 200 and self.host.encode() in body, (status, body)

    async def once(self, kind):
        """A request on a connection of its own."""
        connection = await self.connect(kind)
        try:
            await self.ask(connection)
        finally:
            connection.writer.transport.abort()

    async def counted(self, what, request):
        self.done += 1
        try:
            await asyncio.wait_for(request, 10)
        except Exception as error:
            at = time.monotonic() - self.started
            self.failures.append(f"{what} after {at:.1f} s: {error!r}")

    async def over_new(self, kind, rate):
        """No more than some at once: a slow machine makes the load smaller, not the queue longer."""
        tasks, seats = [], asyncio.Semaphore(SEATS)

        async def one():
            try:
                await self.counted(f"new {kind.protocol}", self.once(kind))
            finally:
                seats.release()

        async for _ in self.beats(rate):
            await seats.acquire()
            tasks.append(asyncio.create_task(one()))
        await asyncio.gather(*tasks)

    async def over_kept(self, kind, rate):
        connection = await self.connect(kind)
        async for _ in self.beats(rate):
            await self.counted(f"kept {kind.protocol}", self.ask(connection))
        connection.writer.transport.abort()

    async def run(self, new, kept, connections):
        """`new` and `kept` are requests a second by each of the two protocols, until `ending`."""
        works = []
        for kind in (Http1, Http2):
            works.append(self.over_new(kind, new))
            works += [self.over_kept(kind, kept / connections) for _ in range(connections)]
        await asyncio.gather(*works)

    async def beats(self, rate):
        """Yields at even distances."""
        number = 0
        while not self.ending:
            wait = self.started + number / rate - time.monotonic()
            await asyncio.sleep(max(0, wait))
            yield
            # What is far too late is left out.
            number += 1 + max(0, int(-wait * rate) - SEATS)

    async def shown(self):
        """The certificate that a new connection is shown."""
        connection = await self.connect(Http1)
        shown = connection.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        connection.writer.transport.abort()
        return shown

    async def shows(self, certificate):
        """Waits until new connections are shown it; how long that took."""
        started = time.monotonic()
        while await self.shown() != certificate.der:
            assert time.monotonic() - started < 10, "the new certificate is not shown"
            await asyncio.sleep(0.05)
        return time.monotonic() - started
