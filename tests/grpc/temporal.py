"""A real Temporal behind an edge, as its Python SDK sees it: temporal.py TEMPORAL PROGRAM [--long]

The frontends are front doors (`doors.py`), which count what reaches them, before one real server. SDKs try again what
fails and say nothing: so what counts is calls that failed, by the SDK's own metrics. --long takes a quarter of an
hour and, as root, a network namespace of its own, in which packets can be dropped.
"""

import asyncio
import contextlib
import os
import sys
import time

import faults
import statuses
from doors import Doors
from edge import Edge
from workflows import Killable, Sdk, Temporal

# The server ends each connection after that long, whatever is on it; streams have longer.
CHURN = ('frontend.keepAliveMaxConnectionAge="5s"', 'frontend.keepAliveMaxConnectionAgeGrace="75s"')
# How far a frontend's share may be from even, in percent of all calls: of thousands, and of a few, where chance counts.
POINTS, POINTS_OF_FEW = 3, 8


def services(*addresses, more=""):
    endpoints = ", ".join(f'"{address}"' for address in addresses)
    return f"""
[services.temporal]
endpoints = [{endpoints}]
hiveway.protocol = "grpc"
hiveway.health.grpc-service = "temporal.api.workflowservice.v1.WorkflowService"
{more}"""


async def spread(edge, doors, workflows, points, least=0):
    """From one connection, each frontend gets its share of all calls."""
    sdk = await Sdk().connect(edge.address)
    before, took = doors.streams(), 0
    async with sdk.worker("spread"):
        while True:
            took += await sdk.workflows("spread", workflows, 5)
            streams = [now - then for now, then in zip(doors.streams(), before)]
            if sum(streams) >= least:
                break
        failed = await sdk.failed()
    apart = [100 * streams_of / sum(streams) - 100 / len(streams) for streams_of in streams]
    print(f"{sum(streams)} calls from one connection in {took:.1f} s, by frontend: {streams},"
          f" at most {max(map(abs, apart)):.2f} points from even; failed: {dict(failed)}", flush=True)
    assert max(map(abs, apart)) <= points, streams
    assert not failed, failed


async def awaited(address, name, count):
    """So many workflows, each awaited on a stream of the same connection."""
    sdk = await Sdk().connect(address)
    async with sdk.worker(name):
        took = await sdk.workflows(name, count, 2)
    failed = await sdk.failed()
    print(f"{count} workflows, {name}: {took:.1f} s; failed: {dict(failed)}", flush=True)
    return took, failed


async def swap(edge, doors, number):
    """A worker is killed while its polls wait; another takes what comes next, and none of it is lost."""
    queue = f"swap-{number}"
    other = await Sdk().connect(edge.address)
    first = await asyncio.to_thread(Killable, edge.address, queue)
    await asyncio.sleep(0.5)
    waiting = sum(door["open"] for door in doors.say("state"))
    killed = time.monotonic()
    first.kill()
    await asyncio.sleep(0.3)
    state = doors.say("state")
    resets = [at - killed for door in state for at in door["resets"] if at >= killed]
    left = sum(door["open"] for door in state)
    async with other.worker(queue):
        longest = max(await asyncio.gather(*(other.workflow(queue, 1) for _ in range(5))))
    print(f"a killed worker's polls: {len(resets)} of {waiting} reset, the last after"
          f" {max(resets, default=0) * 1000:.0f} ms; the next 5 workflows took {longest:.2f} s at most", flush=True)
    assert resets and max(resets) < 0.1 and left == 0, (resets, left)
    assert longest < 1, longest


async def churn(program, temporal, seconds):
    """The server says GOAWAY on every connection every few seconds: no call fails."""
    with Doors(temporal, 2) as doors, Edge(program, services(*doors.addresses)) as edge:
        sdk = await Sdk().connect(edge.address)
        async with sdk.worker("churn"):
            took = await faults.load(sdk, "churn", seconds)
            failed = await sdk.failed()
        goaways = sum(door["goaways"] for door in doors.say("state"))
    print(f"{len(took)} workflows in {seconds} s of GOAWAY every 5 s, {goaways} of them;"
          f" longest {max(took.values()):.2f} s; failed: {dict(failed)}", flush=True)
    assert goaways > 2 and not failed, failed


async def idle(edge, seconds):
    """Polls of 50 to 60 s that find nothing: none fails, and the next workflow starts at once."""
    sdk = await Sdk().connect(edge.address)
    async with sdk.worker("idle"):
        await asyncio.sleep(seconds)
        failed = await sdk.failed()
        took = await sdk.workflows("idle", 20, 1)
    print(f"{seconds} s idle, then 20 workflows in {took:.1f} s; failed: {dict(failed)}", flush=True)
    assert not failed, failed


async def short(temporal, program):
    with Temporal(temporal, *CHURN) as server:
        await server.ready()
        with Doors(server.address, 3) as doors, Edge(program, services(*doors.addresses)) as edge:
            await spread(edge, doors, 150, POINTS_OF_FEW)
            await swap(edge, doors, 0)
            await faults.killed(edge, doors, 6)
        with Edge(program, services(server.address)) as edge:
            await asyncio.to_thread(statuses.compare, server.address, edge.address)
        _, failed = await awaited_by_edge(program, server.address, "through-the-edge", 300)
        assert not failed, failed
        await faults.encrypted(program, services(server.address))
        await churn(program, server.address, 8)


async def awaited_by_edge(program, address, name, count):
    with Edge(program, services(address)) as edge:
        return await awaited(edge.address, name, count)


async def in_turn(temporal, program, rounds=3):
    """1,000 workflows at once, directly and through the edge, in turn."""
    ratios = []
    with Temporal(temporal) as server:
        await server.ready()
        for number in range(rounds):
            direct, _ = await awaited(server.address, f"direct-{number}", 1000)
            through, failed = await awaited_by_edge(program, server.address, f"edge-{number}", 1000)
            assert not failed, failed
            ratios.append(through / direct)
    median = sorted(ratios)[rounds // 2]
    print(f"1000 workflows through the edge take {median:.2f} times as long as directly", flush=True)
    assert median <= 1.25, ratios


async def long(temporal, program):
    await short(temporal, program)
    await in_turn(temporal, program)
    with Temporal(temporal) as server:
        await server.ready()
        with Doors(server.address, 3) as doors, Edge(program, services(*doors.addresses)) as edge:
            await spread(edge, doors, 200, POINTS, least=20_000)
            for number in range(1, 6):
                await swap(edge, doors, number)
            await idle(edge, 140)
            for _ in range(5):
                await faults.killed(edge, doors, 20)
        for _ in range(5):
            await faults.black_hole(program, server.address, services)
            await faults.restarted(program, server.address, services)
    with Temporal(temporal, *CHURN) as server:
        await server.ready()
        await churn(program, server.address, 60)


def ended_by(running):
    """Runs it and ends the process."""
    try:
        asyncio.run(running)
        ended = 0
    except BaseException:  # The SDK's threads do not always survive the end of the interpreter.
        sys.excepthook(*sys.exc_info())
        ended = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(ended)


def main(temporal, program, *options):
    given = long if "--long" in options else short
    ended_by(given(temporal, program))


if __name__ == "__main__":
    main(*sys.argv[1:])
