"""A real Temporal behind an edge, compared with itself: temporal.py TEMPORAL PROGRAM

An SDK keeps a stream open for each workflow that it waits for, all on one connection: 400 at once
need more streams than servers of HTTP/2 allow by default, or none of them ever ends.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

WORKFLOWS = 400
PATIENCE = 120


@activity.defn
async def add_one(number: int) -> int:
    return number + 1


@workflow.defn
class AddTwo:
    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(2):
            number = await workflow.execute_activity(
                add_one, number, start_to_close_timeout=timedelta(seconds=30))
        return number


async def run(name, address):
    client = await Client.connect(address)
    async with Worker(client, task_queue=name, workflows=[AddTwo], activities=[add_one]):
        started = time.monotonic()
        awaited = [
            client.execute_workflow(AddTwo.run, number, id=f"{name}-{number}", task_queue=name)
            for number in range(WORKFLOWS)
        ]
        results = await asyncio.wait_for(asyncio.gather(*awaited), PATIENCE)
        took = time.monotonic() - started
    assert results == [number + 2 for number in range(WORKFLOWS)]
    print(f"{WORKFLOWS} workflows, {name}: {took:.1f} s", flush=True)


async def connected(address):
    for _ in range(300):
        try:
            return await Client.connect(address)
        except RuntimeError:
            await asyncio.sleep(0.1)
    raise SystemExit("Temporal did not start")


async def compare(program, temporal):
    from edge import Edge

    await connected(temporal)
    services = f"""
[services.temporal]
endpoints = ["{temporal}"]
hiveway.protocol = "grpc"
"""
    with Edge(program, services) as edge:
        await run("direct", temporal)
        await run("through-the-edge", edge.address)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def main(temporal, program):
    port = free_port()
    command = [
        temporal, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port),
        "--http-port", str(free_port()), "--metrics-port", str(free_port()), "--log-level", "error",
    ]
    environment = dict(os.environ, TEMPORAL_VERSION_CHECK_DISABLED="1")
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        asyncio.run(compare(program, f"127.0.0.1:{port}"))
    finally:
        server.terminate()
        server.wait(10)
    # The SDK's threads do not always survive the end of the interpreter.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
