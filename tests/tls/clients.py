"""TLS as clients see it: clients.py PROGRAM CURL [CHROMIUM]

curl, Python's own client, httpx and a browser ask an edge by HTTP/1.1 and HTTP/2, and get the right
answer and the certificate for the name that they ask for. Then certificates are replaced under load.
"""

import asyncio
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import httpx

from authority import Authority
from browser import Browser
from edge import Edge
from load import Load

# In all, over both protocols; a third of them on connections of their own.
RATE = 500
SECONDS = 8

LISTENERS = """
[tls]
certificates = ["{directory}"]
[listeners.websecure]
address = "127.0.0.1:0"
[listeners.http1]
address = "127.0.0.1:0"
tls = true
protocols = ["http1"]
"""

SERVICES = """
[services.shop]
endpoints = ["127.0.0.1:{port}"]
hiveway.host = "shop.test"
hiveway.https-redirect = true
[services.blog]
endpoints = ["127.0.0.1:{port}"]
hiveway.host = "*.blog.test"
hiveway.hsts = "1h"
"""


def with_curl(curl, edge, authority):
    port = edge.addresses["websecure"].rsplit(":", 1)[1]

    def ask(host, *options):
        command = [curl, "-sS", "--max-time", "10", "--cacert", authority.root, *options,
                   "--resolve", f"{host}:{port}:127.0.0.1", "-w", "\n%{http_version}",
                   f"https://{host}:{port}/x?y"]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout

    for host in ("shop.test", "a.blog.test"):
        for option, version in (("--http1.1", "1.1"), ("--http2", "2")):
            status, output = ask(host, option)
            assert status == 0, (host, option, status)
            body, spoken = output.rsplit("\n", 1)
            told = {"target": "/x?y", "host": f"{host}:{port}", "proto": "https"}
            assert (json.loads(body), spoken) == (told, version), output
    # 60: the certificate cannot be verified. Of a name that none is for, any is shown.
    assert ask("other.test")[0] == 60
    assert ask("shop.test", "--tlsv1.2", "--tls-max", "1.2")[0] == 0
    assert ask("shop.test", "--tlsv1.3")[0] == 0


def with_python(edge, authority, certificates):
    place, port = edge.addresses["websecure"].rsplit(":", 1)
    for host, certificate in certificates.items():
        connection = http.client.HTTPSConnection(host, int(port), context=authority.context())
        # The names are found by nobody's DNS.
        connection.sock = authority.context("http/1.1").wrap_socket(
            socket.create_connection((place, int(port)), 10), server_hostname=host)
        assert connection.sock.getpeercert(binary_form=True) == certificate.der, host
        for number in range(3):
            connection.request("GET", f"/{number}")
            answer = connection.getresponse()
            told = json.loads(answer.read())
            assert (answer.status, answer.version, told["target"]) == (200, 11, f"/{number}")
        connection.close()
        with httpx.Client(http2=True, verify=authority.context()) as client:
            for number in range(3):
                answer = client.get(f"https://{place}:{port}/{number}", headers={"Host": host},
                                    extensions={"sni_hostname": host})
                assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                assert answer.json() == {"target": f"/{number}", "host": host, "proto": "https"}


def with_a_browser(chromium, edge, certificates):
    hosts = {
        "shop.test:80": edge.addresses["web"], "shop.test:443": edge.addresses["websecure"],
        "*.blog.test:80": edge.addresses["web"], "a.blog.test:443": edge.addresses["http1"],
        "b.blog.test:443": edge.addresses["websecure"],
    }
    keys = [certificate.public_key_hash for certificate in certificates.values()]

    def check(url, protocol, name, redirected=None):
        response, told, redirects = browser.visit(url)
        assert (response["status"], response["protocol"]) == (200, protocol), (url, response)
        assert response["securityDetails"]["sanList"] == [name], response["securityDetails"]
        assert told["proto"] == "https" and told["host"] == response["url"].split("/")[2], told
        assert [redirect["status"] for redirect in redirects] == (redirected or []), redirects
        return redirects

    with Browser(chromium, hosts, keys) as browser:
        check("https://shop.test/1", "h2", "shop.test")
        check("https://a.blog.test/2", "http/1.1", "*.blog.test")
        check("https://b.blog.test/3", "h2", "*.blog.test")
        check("http://shop.test/4?q", "h2", "shop.test", [308])
        # Nobody redirects these but the browser itself, which was told to come by https.
        [redirect] = check("http://b.blog.test/5", "h2", "*.blog.test", [307])
        assert redirect["headers"]["Non-Authoritative-Reason"] == "HSTS", redirect
        response, told, _ = browser.visit("http://c.blog.test/6")
        assert (response["protocol"], told["proto"]) == ("http/1.1", "http"), response


async def replace_under_load(edge, authority):
    load = Load(edge.addresses["websecure"], "shop.test", authority)
    running = asyncio.create_task(load.run(RATE / 6, RATE / 3, 5))
    await asyncio.sleep(1)
    took = [await load.shows(authority.issue("shop.pem", "shop.test"))]
    await asyncio.sleep(0.5)
    second = authority.issue("shop.pem", "shop.test", at_once=False)
    took.append(await load.shows(second))
    broken = authority.served / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA")
    broken_at = time.monotonic()
    while not any("broken.pem" in line for line in edge.log):
        assert time.monotonic() - broken_at < 10, "nobody complained of the broken file"
        await asyncio.sleep(0.05)
    assert await load.shown() == second.der
    broken.unlink()
    await asyncio.sleep(load.started + SECONDS - time.monotonic())
    load.ending = True
    await running
    rate = load.done / (time.monotonic() - load.started)
    assert await load.shown() == second.der
    print(f"certificates replaced twice: {load.done} requests, {len(load.failures)} failed, "
          f"{rate:.0f} a second; shown after {took[0]:.1f} s and {took[1]:.1f} s")
    assert not load.failures, load.failures[:10]
    # A machine that does other things as well is no reason to fail.
    assert load.done >= RATE * SECONDS / 5


def main(program, curl, chromium=None):
    replica = subprocess.Popen(
        [sys.executable, pathlib.Path(__file__).parent / "replica.py"], stdout=subprocess.PIPE)
    try:
        services = SERVICES.format(port=int(replica.stdout.readline()))
        with tempfile.TemporaryDirectory() as directory:
            authority = Authority(directory)
            certificates = {
                "shop.test": authority.issue("shop.pem", "shop.test"),
                "a.blog.test": authority.issue("blog.pem", "*.blog.test"),
            }
            options = LISTENERS.format(directory=authority.served)
            names = ("web", "websecure", "http1")
            with Edge(program, services, options, names) as edge:
                with_curl(curl, edge, authority)
                with_python(edge, authority, certificates)
                if chromium:
                    with_a_browser(chromium, edge, certificates)
                asyncio.run(replace_under_load(edge, authority))
    finally:
        replica.kill()
        replica.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
