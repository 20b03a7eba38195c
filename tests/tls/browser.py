"""Chromium without a window, driven through a pipe (Chrome DevTools Protocol)."""

import json
import os
import subprocess
import tempfile

OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--no-proxy-server", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
]


class Browser:
    """`with Browser(program, hosts, keys) as browser`.

    `hosts` says where a host and port are found: {"shop.test:443": "127.0.0.1:4711"}. A certificate
    is believed if it has one of the public keys, whatever name it is for.
    """

    def __init__(self, program, hosts, keys):
        self.directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        rules = ", ".join(f"MAP {host} {address}" for host, address in hosts.items())
        commands, events = os.pipe(), os.pipe()
        # It reads commands from 3 and writes to 4.
        shell = f'exec "$@" 3<&{commands[0]} 4>&{events[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "bash", program, *OPTIONS,
             f"--user-data-dir={self.directory.name}", f"--host-resolver-rules={rules}",
             f"--ignore-certificate-errors-spki-list={','.join(keys)}", "about:blank"],
            pass_fds=[commands[0], events[1]], stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(events[1])
        self.commands, self.events = os.fdopen(commands[1], "wb"), os.fdopen(events[0], "rb")
        self.buffer, self.count, self.session = b"", 0, None

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.call("Network.enable")
        self.call("Page.enable")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.directory.cleanup()

    def receive(self):
        while b"\0" not in self.buffer:
            more = self.events.raw.read(1 << 16)
            if not more:
                raise SystemExit("the browser has ended")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, seen=None, **parameters):
        """The result; events that come before it are put into `seen`."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        self.commands.flush()
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            if seen is not None:
                seen.append(answer)

    def visit(self, url):
        """The response to the page itself, what it says, and the redirects before it."""
        seen = []
        result = self.call("Page.navigate", seen, url=url)
        assert "errorText" not in result, (url, result["errorText"])
        while not any(event["method"] == "Page.loadEventFired" for event in seen):
            seen.append(self.receive())
        redirects, response = [], None
        for event in seen:
            what = event["params"]
            if event["method"] == "Network.requestWillBeSent" and "redirectResponse" in what:
                redirects.append(what["redirectResponse"])
            if event["method"] == "Network.responseReceived" and what["type"] == "Document":
                response = what["response"]
        text = self.call("Runtime.evaluate", expression="document.body.innerText")
        return response, json.loads(text["result"]["value"]), redirects
