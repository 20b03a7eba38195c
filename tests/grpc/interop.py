"""gRPC's interoperability cases, each client against each server, directly and through an edge: interop.py TONIC PROGRAM

TONIC is examples/interop, which has the cases of the one library; those of gRPC's C library are in `library.py`. What
passes directly must pass through the edge. Prints a table: a case a line, and a column for each pair.
"""

import contextlib
import pathlib
import subprocess
import sys
import tempfile

from authority import Authority
from edge import Edge

LISTENERS = """
[tls]
certificates = ["{directory}"]
[listeners.grpcio]
address = "127.0.0.1:0"
[listeners.grpcio-tls]
address = "127.0.0.1:0"
tls = true
[listeners.tonic]
address = "127.0.0.1:0"
[listeners.tonic-tls]
address = "127.0.0.1:0"
tls = true
"""
SERVICE = """
[services.{name}]
endpoints = ["127.0.0.1:{port}"]
hiveway.protocol = "grpc"
hiveway.listener = "{name},{name}-tls"
"""
LIBRARIES = ("grpcio", "tonic")


def command(library, tonic, *words):
    program = [tonic] if library == "tonic" else [sys.executable, pathlib.Path(__file__).with_name("library.py")]
    return [*program, *words]


def call(library, tonic, address, root=None):
    """What came of each case: nothing, or what was wrong."""
    url = f"{'https' if root else 'http'}://{address}"
    words = command(library, tonic, "call", url, *([root] if root else []))
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    outcomes = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    if done.returncode or not outcomes:
        raise SystemExit(f"{library} failed:\n{done.stdout}{done.stderr}")
    return {case: None if outcome == "ok" else outcome for case, outcome in outcomes.items()}


@contextlib.contextmanager
def server(library, tonic):
    process = subprocess.Popen(command(library, tonic, "serve"), stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def pairs(tonic, program):
    """Yields each pair, the way between them, and what came of each case."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(server(name, tonic)) for name in LIBRARIES}
        authority = Authority(stack.enter_context(tempfile.TemporaryDirectory()))
        authority.issue("interop.pem", "interop.test")
        services = "".join(SERVICE.format(name=name, port=port) for name, port in ports.items())
        names = [name + end for name in LIBRARIES for end in ("", "-tls")]
        options = LISTENERS.format(directory=authority.served)
        edge = stack.enter_context(Edge(program, services, options, names))
        for client in LIBRARIES:
            for name, port in ports.items():
                pair = f"{client} → {name}"
                yield pair, "directly", call(client, tonic, f"127.0.0.1:{port}")
                yield pair, "plain", call(client, tonic, edge.addresses[name])
                yield pair, "TLS", call(client, tonic, edge.addresses[f"{name}-tls"], authority.root)


def show(outcomes):
    """Prints the table from each column and what came of its cases; ends with 1 if one failed."""
    results, columns = {}, []
    for column, found in outcomes:
        columns.append(column)
        for case, wrong in found.items():
            results.setdefault(case, {})[column] = wrong
    print("| case | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    broken = []
    for case, found in results.items():
        print(f"| `{case}` | " + " | ".join("ok" if found[at] is None else "FAILED" for at in columns) + " |")
        broken += [f"{case}, {at}: {found[at]}" for at in columns if found[at] is not None]
    print(f"{len(results)} cases, {len(results) * len(columns)} results, {len(broken)} failed")
    print("\n".join(broken))
    if broken:
        raise SystemExit(1)


def main(tonic, program):
    show((f"{pair}, {way}", found) for pair, way, found in pairs(tonic, program))


if __name__ == "__main__":
    main(*sys.argv[1:])
