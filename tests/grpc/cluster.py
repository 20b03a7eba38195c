"""A cluster of a real Temporal with two frontends behind an edge: cluster.py DIRECTORY PROGRAM

DIRECTORY has Temporal's `server` and `sql`, as `go install` leaves them. They run on the loopback address, each frontend
and all the rest of Temporal in processes of their own, over a PostgreSQL that ends with them. Temporal's own workers find
frontends by themselves: what the edge counts is calls of the SDK alone, and its health checks are not among them.
"""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import faults
from edge import Edge
from google.protobuf.duration_pb2 import Duration
from ports import free_ports, is_free
from temporal import POINTS, ended_by, services, spread
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.service import RetryConfig, RPCError
from workflows import Sdk, connected

# The SDK does not send again what fails 10 s after it began: a poll for a workflow's end may have waited longer than that.
PATIENT = RetryConfig(max_elapsed_time_millis=60_000)
DATABASES = {"temporal": "postgresql/v12/temporal", "visibility": "postgresql/v12/visibility"}
THE_REST = ("history", "matching", "worker")
# How a frontend ends, as docs/temporal.md advises.
SETTINGS = {"frontend.shutdownFailHealthCheckDuration": "20s", "frontend.shutdownDrainDuration": "75s"}
COUNTED = re.compile(
    r'^hiveway_upstream_requests_total\{.*endpoint="temporal\.([^"]+)",outcome="(\w+)"\} (\d+)$', re.MULTILINE)
# What a call comes to that does not fail, or not because of its frontend.
ANSWERED_OR_RESENT = ("ok", "client", "refused")


class Postgres:
    """`with Postgres() as postgres`: a database server in a directory of its own; for root, as the user `postgres`."""

    def __init__(self):
        installed = [initdb.parent for initdb in pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        self.programs = max(installed, key=lambda programs: int(programs.parent.name))
        self.directory = tempfile.TemporaryDirectory()
        self.password, (self.port,) = secrets.token_hex(), free_ports(1)
        self.owner = {}
        if os.getuid() == 0:
            self.owner = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}
            shutil.chown(self.directory.name, "postgres", "postgres")

    def __enter__(self):
        place = pathlib.Path(self.directory.name)
        password, data = place / "password", place / "data"
        password.write_text(self.password)
        subprocess.run(
            [self.programs / "initdb", "-D", data, "-U", "temporal", "--pwfile", password, "--auth", "scram-sha-256",
             "--encoding", "UTF8", "--locale", "C", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, **self.owner)
        # What it stores ends with it, so that it need not reach the disk.
        self.process = subprocess.Popen(
            [self.programs / "postgres", "-D", data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
             "-c", "unix_socket_directories=", "-c", "max_connections=300", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.owner)
        answers = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(answers, check=False).returncode:
            assert self.process.poll() is None, "PostgreSQL did not start"
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        # Without waiting for clients, which have been killed.
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self.directory.cleanup()

    def store(self, database):
        """Where a database is, as Temporal's configuration wants it."""
        return {"sql": {
            "pluginName": "postgres12", "databaseName": database, "connectAddr": f"127.0.0.1:{self.port}",
            "connectProtocol": "tcp", "user": "temporal", "password": self.password, "maxConns": 20,
            "maxIdleConns": 20}}


class Server:
    """A process of Temporal, with some of its services."""

    def __init__(self, cluster, name, *roles):
        self.roles, self.log = roles, cluster.place / f"{name}.log"
        ports = {**cluster.ports, **{role: cluster.pair() for role in roles}}
        self.address, self.port = f"127.0.0.1:{ports['frontend'][0]}", ports[roles[0]][0]
        self.config = cluster.place / f"{name}.yaml"
        # YAML is what it reads, and JSON is YAML.
        self.config.write_text(json.dumps(cluster.config(ports)))
        self.program = cluster.programs / "server"
        self.start()

    def start(self):
        command = [self.program, "--config-file", self.config, "--allow-no-auth", "start"]
        for role in self.roles:
            command += ["--service", role]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def listens(self):
        """Waits until the first of its services does."""
        while is_free(self.port):
            assert self.process.poll() is None, self.log.read_text()[-1000:]
            time.sleep(0.1)

    def end(self):
        """Asks it to; returns how long it took."""
        asked = time.monotonic()
        self.process.terminate()
        self.process.wait(120)
        return time.monotonic() - asked

    def kill(self):
        self.process.kill()
        self.process.wait()


class Cluster:
    """`with Cluster(programs) as cluster`: all of it, on ports that are free."""

    def __init__(self, programs):
        self.programs, self.ending = pathlib.Path(programs), contextlib.ExitStack()
        # Those by which members find each other are stored as numbers of 16 bits with a sign; the kernel picks higher ones.
        self.low = iter(random.sample(range(1 << 14, 1 << 15), 500))

    def __enter__(self):
        with contextlib.ExitStack() as ending:
            self.place = pathlib.Path(ending.enter_context(tempfile.TemporaryDirectory()))
            self.postgres = ending.enter_context(Postgres())
            for database, schema in DATABASES.items():
                self.sql(database, "create")
                self.sql(database, "setup-schema", "-v", "0.0")
                self.sql(database, "update-schema", "--schema-name", schema)
            (self.place / "settings.yaml").write_text(json.dumps({
                setting: [{"value": value}] for setting, value in SETTINGS.items()}))
            self.ports = {role: self.pair() for role in ("frontend", *THE_REST)}
            self.servers = [Server(self, "rest", *THE_REST)]
            ending.callback(lambda: [server.kill() for server in self.servers])
            # It writes down what the cluster is; of two that do so at once, one fails.
            self.servers[0].listens()
            self.servers += [Server(self, f"frontend-{number}", "frontend") for number in range(2)]
            self.frontends = self.servers[1:]
            self.ending = ending.pop_all()
        return self

    def __exit__(self, failed, *_):
        for server in self.servers if failed else ():
            lines = [line[:300] for line in server.log.read_text().splitlines()[-10:]]
            print(f"the end of {server.log.name}:", *lines, sep="\n", flush=True)
        self.ending.close()

    def pair(self):
        """A port for calls, and one for members."""
        return *free_ports(1), next(port for port in self.low if is_free(port))

    def sql(self, database, *what):
        at = ["--plugin", "postgres12", "--ep", "127.0.0.1", "-p", str(self.postgres.port), "-u", "temporal"]
        secret = dict(os.environ, SQL_PASSWORD=self.postgres.password)
        told = subprocess.run([self.programs / "sql", *at, "--db", database, *what],
                              env=secret, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr

    def config(self, ports):
        return {
            "log": {"stdout": True, "level": "warn"},
            "persistence": {
                "defaultStore": "temporal", "visibilityStore": "visibility", "numHistoryShards": 4,
                "datastores": {database: self.postgres.store(database) for database in DATABASES}},
            "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"}},
            "services": {
                role: {"rpc": {"grpcPort": calls, "membershipPort": members, "bindOnIP": "127.0.0.1"}}
                for role, (calls, members) in ports.items()},
            "clusterMetadata": {
                "enableGlobalNamespace": False, "failoverVersionIncrement": 10, "masterClusterName": "active",
                "currentClusterName": "active", "clusterInformation": {"active": {
                    "enabled": True, "initialFailoverVersion": 1, "rpcName": "frontend",
                    "rpcAddress": f"127.0.0.1:{self.ports['frontend'][0]}"}}},
            "dcRedirectionPolicy": {"policy": "noop"},
            "dynamicConfigClient": {"filepath": str(self.place / "settings.yaml"), "pollInterval": "10s"},
        }

    async def ready(self):
        """Waits until both frontends serve, and know the namespace."""
        new = RegisterNamespaceRequest(
            namespace="default", workflow_execution_retention_period=Duration(seconds=86400))
        for number, frontend in enumerate(self.frontends):
            client = await connected(frontend.address)
            if number == 0:
                await client.workflow_service.register_namespace(new)
            await self.known(client)

    async def known(self, client):
        for _ in range(600):
            with contextlib.suppress(RPCError):
                return await client.count_workflows()
            await asyncio.sleep(0.1)
        raise SystemExit("the frontend does not know its namespace")


class Counted:
    """What the edge counts by frontend, in the words of `doors.Doors`."""

    def __init__(self, edge, cluster):
        self.metrics = f"http://{edge.addresses['admin']}/metrics"
        self.addresses = [frontend.address for frontend in cluster.frontends]

    def outcomes(self):
        """How the calls to each frontend ended that are over."""
        with urllib.request.urlopen(self.metrics) as answer:
            counted = COUNTED.findall(answer.read().decode())
        return [collections.Counter({outcome: int(value) for endpoint, outcome, value in counted if endpoint == address})
                for address in self.addresses]

    def streams(self):
        return [outcomes.total() for outcomes in self.outcomes()]


async def load_until(sdk, queue, done):
    took = {}
    while not done.is_set():
        took |= await faults.load(sdk, queue, 5)
    return took


@contextlib.asynccontextmanager
async def loaded(edge, queue):
    """Load while the body runs; gives the SDK, and a list that has the load's times in the end."""
    sdk, times, done = await Sdk().connect(edge.address, retry_config=PATIENT), [], asyncio.Event()
    async with sdk.worker(queue):
        running = asyncio.create_task(load_until(sdk, queue, done))
        await asyncio.sleep(10)
        try:
            yield sdk, times
        finally:
            done.set()
            times.append(await running)


async def back(counted, frontend):
    """Starts a frontend again; tells when it serves, and when it has its share."""
    started = time.monotonic()
    frontend.start()
    await connected(frontend.address)
    serves = time.monotonic() - started
    even = await faults.until_even(counted, 60)
    print(f"even again {even:.1f} s after it served, which it did {serves:.1f} s after its start", flush=True)


async def stopped(edge, counted, cluster, number):
    """A frontend is asked to end, and started again: no call fails."""
    frontend = cluster.frontends[number]
    async with loaded(edge, "stopped") as (sdk, times):
        before, at = counted.outcomes()[number], time.monotonic()
        ended = await asyncio.to_thread(frontend.end)
        print(f"a frontend asked to end had ended after {ended:.1f} s;"
              f" what came of its calls: {dict(counted.outcomes()[number] - before)}", flush=True)
        await back(counted, frontend)
    failed = await sdk.failed()
    faults.told("a frontend stopped and started", *times, at, failed, 0)
    assert not failed, failed


async def killed(edge, counted, cluster, number):
    """A frontend is killed, and started 5 s later: only calls that it had fail."""
    frontend = cluster.frontends[number]
    async with loaded(edge, "killed") as (sdk, times):
        before, at = counted.outcomes()[number], time.monotonic()
        await asyncio.to_thread(frontend.kill)
        await asyncio.sleep(5)
        came = counted.outcomes()[number] - before
        await back(counted, frontend)
    failed = await sdk.failed()
    lost = sum(count for outcome, count in came.items() if outcome not in ANSWERED_OR_RESENT)
    faults.told("a frontend killed", *times, at, failed, lost)
    print(f"what came of its calls: {dict(came)}", flush=True)
    faults.only_unavailable(failed)
    assert faults.unavailable(failed) <= lost, failed


async def run(programs, program):
    with Cluster(programs) as cluster:
        await cluster.ready()
        with Edge(program, services(*(frontend.address for frontend in cluster.frontends))) as edge:
            counted = Counted(edge, cluster)
            await spread(edge, counted, 100, POINTS, least=5000)
            for number in range(2):
                await stopped(edge, counted, cluster, number)
                await killed(edge, counted, cluster, number)
            await spread(edge, counted, 100, POINTS, least=5000)


if __name__ == "__main__":
    ended_by(run(*sys.argv[1:]))
