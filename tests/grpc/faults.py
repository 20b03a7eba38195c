"""What happens to frontends while workflows run, and what it costs these."""

import asyncio
import collections
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from authority import Authority
from doors import Doors
from edge import Edge
from temporalio.service import TLSConfig
from workflows import Sdk

LISTENER = """
[listeners.secure]
address = "127.0.0.1:0"
tls = true
max-streams = 10000
[tls]
certificates = ["{directory}"]
client-ca = "{root}"
"""
# Workflows that run at once.
AT_ONCE = 20


async def load(sdk, queue, seconds):
    """Runs workflows of 5 activities, one after the other in each of 20 places; when each began, and how long it took."""
    took, end = {}, time.monotonic() + seconds

    async def place():
        while (started := time.monotonic()) < end:
            took[started] = await sdk.workflow(queue, 5)
    await asyncio.gather(*(place() for _ in range(AT_ONCE)))
    return took


def p99(took):
    return sorted(took)[len(took) * 99 // 100] if took else 0


def told(what, took, since, failed, sent):
    """What it cost: failed calls beside those that were on their way, and the time of workflows that began later."""
    before = [each for began, each in took.items() if began + each < since]
    after = [each for began, each in took.items() if began > since + 1]
    print(f"{what}: {len(took)} workflows, p99 {p99(before):.2f} s before and {p99(after):.2f} s from a second after;"
          f" {sent} calls were open there, {sum(failed.values())} failed: {dict(failed)}", flush=True)


async def killed(edge, doors, seconds):
    """A frontend dies, and is back later: only calls that were at it fail."""
    sdk = await Sdk().connect(edge.address)
    async with sdk.worker("killed"):
        running = asyncio.create_task(load(sdk, "killed", seconds))
        await asyncio.sleep(seconds / 4)
        lost, at = doors.say("state")[0]["lost"], time.monotonic()
        doors.say("kill 0")
        await asyncio.sleep(seconds / 4)
        lost = doors.say("state")[0]["lost"] - lost
        doors.say("open 0")
        even = await until_even(doors, seconds / 2)
        took = await running
        failed = await sdk.failed()
    told("a frontend killed", took, at, failed, lost)
    print(f"even again {even:.1f} s after it was back", flush=True)
    only_unavailable(failed)
    # The kernel may have had some that the door had not.
    assert unavailable(failed) <= lost + 5, failed


def unavailable(failed):
    return sum(count for call, count in failed.items() if call.endswith(" UNAVAILABLE"))


def only_unavailable(failed):
    """What had run, but was not answered, is not found when the SDK sends it again."""
    others = {call for call in failed if not call.endswith(" UNAVAILABLE")}
    assert all(call.startswith("Respond") and call.endswith(" NOT_FOUND") for call in others), failed


async def until_even(doors, patience):
    """How long until a second's calls are spread within 10 points."""
    began, seen = time.monotonic(), collections.deque([doors.streams()], 4)
    while time.monotonic() < began + patience:
        await asyncio.sleep(0.25)
        seen.append(doors.streams())
        lately = [now - then for now, then in zip(seen[-1], seen[0])]
        if len(seen) == 4 and all(abs(of / max(sum(lately), 1) - 1 / len(lately)) < 0.1 for of in lately):
            break
    return time.monotonic() - began


def drop(verb, host):
    """Drops all packets from and to an address, or no longer. Only in a network namespace of one's own."""
    for end in ("-s", "-d"):
        subprocess.run(["iptables", verb, "INPUT", end, host, "-j", "DROP"], check=True)


async def black_hole(program, server, services):
    """The way to a frontend swallows everything for 20 s."""
    if "OWN_NETWORK" not in os.environ:
        print("LEFT OUT: a frontend black-holed, which takes a network namespace of its own", flush=True)
        return
    with Doors(server, 3) as doors, Edge(program, services(*doors.addresses)) as edge:
        sdk = await Sdk().connect(edge.address)
        async with sdk.worker("hole"):
            running = asyncio.create_task(load(sdk, "hole", 40))
            await asyncio.sleep(5)
            state = doors.say("state")[0]
            at = time.monotonic()
            drop("-I", state["host"])
            try:
                await asyncio.sleep(20)
            finally:
                drop("-D", state["host"])
            took = await running
            failed = await sdk.failed()
        told("a frontend black-holed", took, at, failed, state["open"])
        only_unavailable(failed)


class Frontend:
    """A replica of gRPC's C library that passes calls on, and ends as Temporal's frontends do."""

    def __init__(self, server, port=0):
        script = pathlib.Path(__file__).with_name("frontend.py")
        command = [sys.executable, script, server, str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


async def restarted(program, server, services):
    """Each of two frontends says that it ends, says GOAWAY, ends when its calls have, and is started anew."""
    frontends = [Frontend(server) for _ in range(2)]
    addresses = [f"127.0.0.1:{frontend.port}" for frontend in frontends]
    more = 'hiveway.health.interval = "500ms"\n'
    try:
        with Edge(program, services(*addresses, more=more)) as edge:
            sdk = await Sdk().connect(edge.address)
            async with sdk.worker("restarted"):
                running = asyncio.create_task(load(sdk, "restarted", 40))
                await asyncio.sleep(3)
                at = time.monotonic()
                for number, frontend in enumerate(list(frontends)):
                    await asyncio.to_thread(frontend.end)
                    frontends[number] = Frontend(server, frontend.port)
                    await asyncio.sleep(2)
                took = await running
                failed = await sdk.failed()
        told("frontends restarted in turn", took, at, failed, 0)
        assert not failed, failed
    finally:
        for frontend in frontends:
            frontend.process.kill()


async def encrypted(program, services):
    """TLS up to the edge, clear text behind it; then with certificates of workers as well."""
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(directory)
        authority.issue("temporal.pem", "temporal.test")
        listeners = LISTENER.format(directory=authority.served, root=authority.root)
        services += 'hiveway.listener = "secure"\n'
        trust = {"server_root_ca_cert": authority.root.read_bytes(), "domain": "temporal.test"}
        worker = authority.person("worker").read_bytes()
        certificate = {"client_cert": worker, "client_private_key": worker}
        with Edge(program, services, listeners, ("secure",)) as edge:
            await by_tls("TLS to the edge", edge, TLSConfig(**trust))
        with Edge(program, services + 'hiveway.client-auth = "required"\n', listeners, ("secure",)) as edge:
            await by_tls("TLS and a certificate of the worker", edge, TLSConfig(**trust, **certificate))
            await refused(edge, TLSConfig(**trust))


async def by_tls(what, edge, tls):
    sdk = await Sdk().connect(edge.address, tls=tls)
    async with sdk.worker("encrypted"):
        took = await sdk.workflows("encrypted", 20, 5)
    failed = await sdk.failed()
    print(f"20 workflows with {what}: {took:.1f} s; failed: {dict(failed)}", flush=True)
    assert not failed, failed


async def refused(edge, tls):
    """A worker without a certificate reaches nothing."""
    try:
        await Sdk().connect(edge.address, tls=tls)
    except RuntimeError as error:
        print(f"without a certificate: {error}", flush=True)
    else:
        raise AssertionError("a worker without a certificate was let in")
