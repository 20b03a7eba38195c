"""The stack of examples/temporal-dev as its users see it: stack.py HOST

Workers and clients at 7233, Temporal's web UI at 21088, the application at 21081, and nothing anywhere else than said.
"""

import asyncio
import sys
import time
import urllib.error
import urllib.request

from temporal import ended_by
from workflows import Sdk, connected

# The server makes its database first.
PATIENCE = 60


def answer(host, port):
    """The status and the body of a page, once there is one."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as response:
                return response.status, response.read()
        except urllib.error.URLError as error:
            if time.monotonic() > end:
                raise SystemExit(f"no answer at port {port}: {error}") from error
            time.sleep(0.2)


async def main(host):
    await connected(f"{host}:7233")
    sdk = await Sdk().connect(f"{host}:7233")
    async with sdk.worker("stack"):
        took = await sdk.workflows("stack", 20, 5)
    failed = await sdk.failed()
    print(f"20 workflows through the stack's edge: {took:.1f} s; failed: {dict(failed)}", flush=True)
    assert not failed, failed
    (status, page), (app, told) = await asyncio.to_thread(answer, host, 21088), await asyncio.to_thread(answer, host, 21081)
    assert status == 200 and b"<html" in page, page[:200]
    assert app == 200 and b'"name":"app"' in told.replace(b" ", b""), told[:200]
    print("the web UI and the application answer at ports of their own", flush=True)


if __name__ == "__main__":
    ended_by(main(*sys.argv[1:]))
