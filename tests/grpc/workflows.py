"""A real Temporal, and workflows that the Python SDK runs on it: workflows.py ADDRESS QUEUE is a worker.

What is imported here is imported again in the sandbox of each workflow, so that it does nothing by itself.
"""

import asyncio
import collections
import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta

from ports import free_ports
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import Worker

# A task that was lost is given to another worker after this; nothing else takes so long.
LOST = timedelta(seconds=10)
PATIENCE = 300
COUNTED = re.compile(r"^temporal_(?:long_)?request_failure(?:_total)?\{(.*)\} ([0-9.]+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


@activity.defn
async def add_one(number: int) -> int:
    return number + 1


@workflow.defn
class Add:
    """Adds by as many activities, one after the other."""

    @workflow.run
    async def run(self, times: int) -> int:
        number = 0
        for _ in range(times):
            number = await workflow.execute_activity(add_one, number, start_to_close_timeout=LOST)
        return number


class Temporal:
    """`with Temporal(program, settings) as temporal`: a server with all of its services, in memory."""

    def __init__(self, program, *settings):
        port, http, metrics = free_ports(3)
        self.address = f"127.0.0.1:{port}"
        command = [
            program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port),
            "--http-port", str(http), "--metrics-port", str(metrics), "--log-level", "never",
        ]
        for setting in settings:
            command += ["--dynamic-config-value", setting]
        environment = dict(os.environ, TEMPORAL_VERSION_CHECK_DISABLED="1")
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)

    async def ready(self):
        return await connected(self.address)


async def connected(address):
    """A client of a frontend, as soon as it serves."""
    for _ in range(600):
        with contextlib.suppress(RuntimeError):
            return await Client.connect(address)
        await asyncio.sleep(0.1)
    raise SystemExit("Temporal did not start")


class Sdk:
    """A client and its worker, on one connection of their own, and what the SDK counts of failed calls."""

    def __init__(self):
        self.metrics = f"127.0.0.1:{free_ports(1)[0]}"
        metrics = PrometheusConfig(bind_address=self.metrics)
        self.runtime = Runtime(telemetry=TelemetryConfig(logging=None, metrics=metrics))

    async def connect(self, address, **options):
        self.client = await Client.connect(address, runtime=self.runtime, **options)
        return self

    def worker(self, queue, **options):
        return Worker(self.client, task_queue=queue, workflows=[Add], activities=[add_one], **options)

    async def workflow(self, queue, activities):
        """Runs one to its end; returns how long that took."""
        started = time.monotonic()
        name = f"{queue}-{time.monotonic_ns()}-{os.urandom(4).hex()}"
        result = await self.client.execute_workflow(Add.run, activities, id=name, task_queue=queue)
        assert result == activities, result
        return time.monotonic() - started

    async def workflows(self, queue, count, activities):
        """Runs so many at once; returns how long all of them took."""
        started = time.monotonic()
        awaited = [self.workflow(queue, activities) for _ in range(count)]
        await asyncio.wait_for(asyncio.gather(*awaited), PATIENCE)
        return time.monotonic() - started

    async def failed(self):
        """Calls that have failed by now, whatever the SDK did about it, by operation and code."""
        failed = collections.Counter()
        with await asyncio.to_thread(urllib.request.urlopen, f"http://{self.metrics}/metrics") as answer:
            text = answer.read().decode()
        for labels, value in COUNTED.findall(text):
            labels = dict(LABEL.findall(labels))
            failed[f"{labels['operation']} {labels.get('status_code', '?')}"] += int(float(value))
        return failed


class Killable:
    """A worker in a process of its own."""

    def __init__(self, address, queue):
        command = [sys.executable, __file__, address, queue]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "works\n"

    def kill(self):
        self.process.kill()
        self.process.wait()


async def work(address, queue):
    sdk = await Sdk().connect(address)
    async with sdk.worker(queue):
        print("works", flush=True)
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
