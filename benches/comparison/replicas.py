"""What stands around the proxies: the endpoints behind them, and a certificate for them."""

import subprocess

from peers import nginx_around, nginx_command
from ports import free_ports
from processes import Process
from programs import on_path
from rows import HOST, ROWS

MOST_ENDPOINTS = max(row.endpoints for row in ROWS)


def replicas(directory):
    """nginx as all endpoints: bodies by their size, and /seen for what arrived of X-Forwarded-For."""
    place = directory / "replicas"
    place.mkdir()
    ports = free_ports(MOST_ENDPOINTS)
    listens = "\n".join(f"    listen 127.0.0.1:{port};" for port in ports)
    # A parameter in its configuration is shorter than 4 KiB.
    kibibyte = "x" * 1024
    config = place / "nginx.conf"
    config.write_text(nginx_around(place, 1, f"""
  access_log off;
  default_type text/html;
  keepalive_timeout 1h;
  server {{
{listens}
    set $kibibyte {kibibyte};
    location = /128 {{ return 200 {"x" * 128}; }}
    location = /16384 {{ return 200 {"$kibibyte" * 16}; }}
    location = /seen {{ return 200 $http_x_forwarded_for; }}
  }}
"""))
    process = Process("nginx", nginx_command(on_path("nginx"), place, config), place)
    return process, ports


def certificate(directory):
    """A certificate for the host, with its key: ECDSA on P-256, as most of the Web has."""
    key, pem, both = (directory / name for name in ("key.pem", "certificate.pem", "both.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
                    "-keyout", key, "-out", pem], check=True, capture_output=True)
    both.write_text(pem.read_text() + key.read_text())
    return both
