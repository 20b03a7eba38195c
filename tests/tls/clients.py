"""TLS as clients see it: clients.py PROGRAM CURL [CHROMIUM]

curl, Python's own client, httpx and a browser ask an edge by HTTP/1.1 and HTTP/2, and get the right
answer and the certificate for the name that they ask for. Some of them show certificates of their own,
or come to a replica with TLS. Then certificates are replaced under load.
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
certificates = ["{directory}", "{root}"]
client-ca = "{root}"
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
[services.safe]
endpoints = ["127.0.0.1:{port}"]
hiveway.host = "safe.test"
hiveway.client-auth = "required"
[services.mixed]
endpoints = ["127.0.0.1:{secure}"]
hiveway.host = "mixed.test"
hiveway.protocol = "https"
hiveway.upstream-tls.ca = "root.pem"
hiveway.upstream-tls.server-name = "replica.test"
hiveway.routes.admin.path = "/admin"
hiveway.routes.admin.client-auth = "required"
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


def with_certificates_of_clients(curl, edge, authority):
    """And to a replica with TLS."""
    place, port = edge.addresses["websecure"].rsplit(":", 1)
    ann = authority.person("ann")

    def ask(host, path, *options):
        command = [curl, "-sS", "--max-time", "10", "--cacert", authority.root, *options,
                   "--resolve", f"{host}:{port}:{place}", "-w", "\n%{http_code}",
                   f"https://{host}:{port}{path}"]
        done = subprocess.run(command, capture_output=True, text=True)
        body, status = done.stdout.rsplit("\n", 1)
        return done.returncode, int(status), body

    for version in ("--http1.1", "--http2"):
        for tls in ("1.2", "1.3"):
            options = (version, f"--tlsv{tls}", "--tls-max", tls)
            # No number is the same in all versions of curl.
            assert ask("safe.test", "/", *options)[0] != 0
            status, code, body = ask("safe.test", "/", "--cert", ann, *options)
            assert (status, code) == (0, 200), (status, code, body)
            told = json.loads(body)["client"].split(";")
            assert told[1:] == ['Subject="CN=ann"', "DNS=ann.test"], told
        assert ask("mixed.test", "/", version)[:2] == (0, 200)
        assert ask("mixed.test", "/admin", version)[:2] == (0, 403)
        status, code, body = ask("mixed.test", "/admin", "--cert", ann, version)
        assert (status, code) == (0, 200) and json.loads(body)["inner"] == "TLSv1.3", body
        assert "CN=ann" in json.loads(body)["client"], body
    for person, expected in ((None, 421), (ann, 421)):
        context = authority.context(person=person)
        with httpx.Client(http2=True, verify=context) as client:
            for host, code in (("shop.test", 200), ("safe.test", expected), ("shop.test", 200)):
                answer = client.get(f"https://{place}:{port}/", headers={"Host": host},
                                    extensions={"sni_hostname": "shop.test"})
                assert (answer.status_code, answer.http_version) == (code, "HTTP/2"), host
    with httpx.Client(http2=True, verify=authority.context(person=ann)) as client:
        for _ in range(3):
            answer = client.get(f"https://{place}:{port}/", headers={"Host": "safe.test"},
                                extensions={"sni_hostname": "safe.test"})
            assert answer.status_code == 200 and "CN=ann" in answer.json()["client"]


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


def check(program, curl, chromium, authority, ports):
    certificates = {
        "shop.test": authority.issue("shop.pem", "shop.test"),
        "a.blog.test": authority.issue("blog.pem", "*.blog.test"),
    }
    for name in ("safe.test", "mixed.test"):
        authority.issue(f"{name}.pem", name)
    services = SERVICES.format(port=ports[0], secure=ports[1])
    options = LISTENERS.format(directory=authority.served, root=authority.root)
    with Edge(program, services, options, ("web", "websecure", "http1")) as edge:
        with_curl(curl, edge, authority)
        with_certificates_of_clients(curl, edge, authority)
        with_python(edge, authority, certificates)
        if chromium:
            with_a_browser(chromium, edge, certificates)
        asyncio.run(replace_under_load(edge, authority))


def main(program, curl, chromium=None):
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(directory)
        script = pathlib.Path(__file__).parent / "replica.py"
        command = [sys.executable, script, authority.person("replica")]
        replica = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            ports = [int(replica.stdout.readline()) for _ in range(2)]
            check(program, curl, chromium, authority, ports)
        finally:
            replica.kill()
            replica.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
