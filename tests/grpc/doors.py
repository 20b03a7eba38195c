"""Front doors of one server: forward its bytes, count what passes, and can be shut: doors.py SERVER COUNT

Each is an address of its own, 127.0.7.N, so that each counts as a replica. They run in a process of their own, which
reads a command a line and answers each with a line of JSON: `state`, `kill N` (resets all of the door's connections,
accepts none), `open N`.
"""

import asyncio
import collections
import json
import socket
import struct
import subprocess
import sys
import time

PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
DATA, HEADERS, RST_STREAM, PING, GOAWAY = 0, 1, 3, 6, 7
END_STREAM, ACK = 1, 1


class Frames:
    """Reads the heads of HTTP/2 frames from pieces of a stream."""

    def __init__(self, skip=0):
        self.rest, self.skip = b"", skip

    def read(self, piece):
        """Type, flags and stream of each frame that begins."""
        at = 0
        data = self.rest + piece
        while True:
            step = min(self.skip, len(data) - at)
            at, self.skip = at + step, self.skip - step
            if self.skip or len(data) - at < 9:
                self.rest = data[at:] if not self.skip else b""
                return
            length = int.from_bytes(data[at:at + 3], "big")
            yield data[at + 3], data[at + 4], int.from_bytes(data[at + 5:at + 9], "big")
            at, self.skip = at + 9, length


class Door:
    def __init__(self, number, server):
        self.host, self.port, self.server = f"127.0.7.{number}", 0, server
        self.listening, self.open = None, set()
        self.counts = collections.Counter()
        self.resets, self.pings = [], []

    async def accept(self):
        self.listening = await asyncio.start_server(self.forward, self.host, self.port, backlog=512)
        self.port = self.listening.sockets[0].getsockname()[1]

    def shut(self):
        self.listening.close()
        for writer in list(self.open):
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def forward(self, reader, writer):
        self.counts["connections"] += 1
        self.open.add(writer)
        streams = set()
        try:
            theirs, ours = await asyncio.open_connection(*self.server)
            await asyncio.gather(
                self.pass_on(reader, ours, Frames(PREFACE), lambda *frame: self.sent(streams, *frame)),
                self.pass_on(theirs, writer, Frames(), lambda *frame: self.answered(streams, *frame)))
        except OSError:
            pass
        finally:
            self.counts["lost"] += len(streams)
            self.counts["open"] -= len(streams)
            self.open.discard(writer)
            writer.close()

    async def pass_on(self, reader, writer, frames, note):
        try:
            while piece := await reader.read(1 << 16):
                for frame in frames.read(piece):
                    note(*frame)
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()

    def sent(self, streams, kind, flags, stream):
        if kind == HEADERS and stream not in streams:
            self.counts["streams"] += 1
            self.counts["open"] += 1
            streams.add(stream)
        elif kind == RST_STREAM:
            self.resets.append(time.monotonic())
            self.ended(streams, stream)
        elif kind == PING and not flags & ACK:
            self.pings.append(time.monotonic())

    def answered(self, streams, kind, flags, stream):
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended(streams, stream)
        elif kind == GOAWAY:
            self.counts["goaways"] += 1

    def ended(self, streams, stream):
        if stream in streams:
            streams.discard(stream)
            self.counts["open"] -= 1

    def state(self):
        return {"address": f"{self.host}:{self.port}", "host": self.host, "resets": self.resets,
                "pings": self.pings, **{name: 0 for name in ("streams", "open", "lost", "goaways", "connections")},
                **self.counts}


async def serve(server, count):
    host, port = server.split(":")
    doors = [Door(number, (host, int(port))) for number in range(1, count + 1)]
    for door in doors:
        await door.accept()
    loop, commands = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        match line.decode().split():
            case ["kill", number]:
                doors[int(number)].shut()
            case ["open", number]:
                await doors[int(number)].accept()
        print(json.dumps([door.state() for door in doors]), flush=True)


class Doors:
    """`with Doors(server, 3) as doors`: a process that has them; each command returns the state of all."""

    def __init__(self, server, count):
        command = [sys.executable, __file__, server, str(count)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        self.addresses = [door["address"] for door in self.say("state")]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def say(self, command):
        print(command, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def streams(self):
        return [door["streams"] for door in self.say("state")]


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
