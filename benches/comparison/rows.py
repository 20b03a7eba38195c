"""The rows of the comparison: one base, and each thing that may cost something varied from it."""

from dataclasses import dataclass, replace

# The one host that is routed; every proxy answers others itself.
HOST = "shop.example.com"

FEW = {"Host": HOST, "User-Agent": "bench", "Accept": "*/*"}

# What a browser sends for a page that it has been to before.
BROWSER = {
    "Host": HOST,
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
                  " Chrome/131.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cache-Control": "max-age=0",
    "Cookie": "session=1f3870be274f6c49b3e31a0c6728957f; theme=dark; consent=all-2026-01-01",
    "If-None-Match": '"5f3c-62a1b7c0d4e80"',
    "Referer": f"http://{HOST}/catalogue/",
    "Sec-Ch-Ua": '"Chromium";v="131", "Not_A Brand";v="24"',
    "Sec-Ch-Ua-Mobile": "?0",
    "Sec-Ch-Ua-Platform": '"Linux"',
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Upgrade-Insecure-Requests": "1",
}


@dataclass(frozen=True)
class Row:
    """One kind of work. The defaults are the base."""
    name: str
    text: str
    endpoints: int = 1
    workers: int = 1
    headers: str = "browser"
    # Bytes of the response's body.
    body: int = 128
    keep_alive: bool = True
    tls: bool = False
    h2: bool = False
    # Whether metrics are kept, where that can be chosen, and read every second.
    metrics: bool = True
    log: bool = False

    @property
    def fields(self):
        return BROWSER if self.headers == "browser" else FEW


BASE = Row("base", "base: 1 worker, 1 endpoint, 16 fields, 128 B, keep-alive, clear text, metrics, no log")

ROWS = [
    BASE,
    replace(BASE, name="endpoints", text="16 endpoints", endpoints=16),
    replace(BASE, name="workers", text="2 workers", workers=2),
    replace(BASE, name="fields", text="3 fields", headers="few"),
    replace(BASE, name="body", text="16 KiB", body=16384),
    replace(BASE, name="connections", text="a new connection for each request", keep_alive=False),
    replace(BASE, name="metrics", text="metrics neither kept nor read, where that can be chosen", metrics=False),
    replace(BASE, name="log", text="access log", log=True),
    replace(BASE, name="h2c", text="HTTP/2, clear text", h2=True),
    replace(BASE, name="tls", text="TLS", tls=True),
    replace(BASE, name="tls-body", text="TLS, 16 KiB", tls=True, body=16384),
    replace(BASE, name="handshakes", text="TLS, a new connection for each request", tls=True, keep_alive=False),
    replace(BASE, name="h2", text="TLS, HTTP/2", tls=True, h2=True),
    replace(BASE, name="all", text="TLS, HTTP/2, 16 endpoints, 2 workers, access log",
            tls=True, h2=True, endpoints=16, workers=2, log=True),
]
