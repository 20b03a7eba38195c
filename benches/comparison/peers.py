"""The proxies, each as good as its own documentation makes it, and all alike: one host is routed, others get 404;
the replica is told of the client in the fields that Hiveway and Traefik set (X-Forwarded-For, -Proto, -Host and -Port,
X-Real-IP, X-Request-ID; Envoy and the bare proxy set fewer), whatever the client says; connections to endpoints are kept; time limits are set; TLS 1.3; health checks off."""

import json
import pathlib
import re
import subprocess
from dataclasses import dataclass

from rows import HOST, Row


@dataclass
class Setup:
    """What a proxy is told."""
    row: Row
    # Its own, for its configuration and its log.
    directory: pathlib.Path
    # Where it listens, and where its metrics are read.
    port: int
    admin: int
    # Ports of the loopback address.
    endpoints: list
    # One file with both, as PEM.
    certificate: pathlib.Path

    @property
    def log(self):
        return self.directory / "access.log"

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path


class Peer:
    """One proxy: how it is started, and how it differs from others."""
    name = ""
    # Where its metrics are read.
    metrics = "/metrics"
    # What to ask it for its version, and what the answer looks like.
    version_arguments = ["--version"]
    version_pattern = r"\d+\.\d+\.\d+\S*"
    routes_by_host = True
    # Whether a listener for HTTP/2 in clear text speaks nothing else.
    h2c_only = False

    def __init__(self, program, name=None):
        self.program, self.name = program, name or self.name

    def does(self, row):
        """Whether it can do this kind of work."""
        return True

    def command(self, setup):
        """Writes its configuration; the words that start it."""
        raise NotImplementedError

    def environment_of(self, row):
        """Variables that it needs besides."""
        return {}

    def version(self):
        done = subprocess.run([self.program, *self.version_arguments], capture_output=True, text=True, check=False)
        found = re.search(self.version_pattern, done.stdout + done.stderr)
        return found[0] if found else "unknown"


class Hiveway(Peer):
    name = "Hiveway"

    def command(self, setup):
        row = setup.row
        endpoints = json.dumps([f"127.0.0.1:{port}" for port in setup.endpoints])
        setup.write("services.toml", f"""
[services.shop]
endpoints = {endpoints}
hiveway.host = "{HOST}"
""")
        config = setup.write("hiveway.toml", f"""
[runtime]
workers = {row.workers}
[listeners.main]
address = "127.0.0.1:{setup.port}"
default = true
tls = {str(row.tls).lower()}
[tls]
certificates = ["{setup.certificate}"]
min-version = "1.3"
[provider]
kind = "file"
path = "services.toml"
[admin]
address = "127.0.0.1:{setup.admin}"
[log]
access = {str(row.log).lower()}
[drain]
delay = "0s"
timeout = "1s"
""")
        # Its log is what it says.
        setup.log.symlink_to("said")
        return [self.program, "edge", "--config", config]


class Bare(Peer):
    name = "bare hyper"
    metrics = None
    routes_by_host = False
    h2c_only = True

    def does(self, row):
        return not (row.tls or row.log)

    def command(self, setup):
        endpoints = [f"127.0.0.1:{port}" for port in setup.endpoints]
        protocol = "h2c" if setup.row.h2 else "http1"
        return [self.program, protocol, f"127.0.0.1:{setup.port}", setup.row.workers, *endpoints]

    def version(self):
        lock = (pathlib.Path(__file__).parents[2] / "Cargo.lock").read_text()
        return re.search(r'name = "hyper"\nversion = "([^"]+)"', lock)[1]


class Haproxy(Peer):
    name = "HAProxy"
    version_arguments = ["-v"]
    # What Hiveway tells a replica, and what it lets no client say.
    fields = """
  http-request del-header Forwarded
  http-request del-header X-Forwarded- -m beg
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-IP %[src]
  unique-id-format %{+X}o%ci%cp%fi%fp%Ts%rt%pid
  unique-id-header X-Request-ID"""

    def command(self, setup):
        row = setup.row
        tls = f" ssl crt {setup.certificate} alpn h2,http/1.1" if row.tls else ""
        servers = "\n".join(f"  server s{n} 127.0.0.1:{port}" for n, port in enumerate(setup.endpoints))
        log = "log stdout format raw local0\n  option httplog" if row.log else "no log"
        setup.log.symlink_to("said")
        config = setup.write("haproxy.cfg", f"""
global
  nbthread {row.workers}
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  {log}
  http-reuse always
  timeout connect 2s
  timeout queue 5s
  timeout client 60s
  timeout server 60s
  timeout http-request 10s
  timeout http-keep-alive 60s
frontend main
  bind 127.0.0.1:{setup.port}{tls}{self.fields}
  use_backend shop if {{ req.hdr(host),lower,field(1,:) {HOST} }}
  http-request return status 404 if !{{ req.hdr(host),lower,field(1,:) {HOST} }}
backend shop
  balance leastconn
{servers}
frontend metrics
  no log
  bind 127.0.0.1:{setup.admin}
  http-request use-service prometheus-exporter
""")
        return [self.program, "-db", "-f", config]


class PlainHaproxy(Haproxy):
    name = "HAProxy, one field"
    fields = "\n  option forwardfor"


class Nginx(Peer):
    name = "nginx"
    metrics = "/"
    h2c_only = True
    version_arguments = ["-v"]

    def command(self, setup):
        row = setup.row
        servers = " ".join(f"server 127.0.0.1:{port};" for port in setup.endpoints)
        words = "".join(word for word, wanted in ((" ssl", row.tls), (" http2", row.h2)) if wanted)
        tls = f"ssl_certificate {setup.certificate}; ssl_certificate_key {setup.certificate};" if row.tls else ""
        log = f"{setup.log} combined buffer=64k flush=1s" if row.log else "off"
        reuse = " reuseport" if row.workers > 1 else ""
        config = setup.write("nginx.conf", nginx_around(setup.directory, row.workers, f"""
  access_log {log};
  {tls}
  ssl_protocols TLSv1.3;
  keepalive_timeout 60s;
  client_header_timeout 10s;
  upstream shop {{
    least_conn;
    {servers}
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
  }}
  server {{
    listen 127.0.0.1:{setup.port}{words} default_server{reuse};
    return 404;
  }}
  server {{
    listen 127.0.0.1:{setup.port}{words};
    server_name {HOST};
    location / {{
      proxy_pass http://shop;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Request-ID $request_id;
      proxy_connect_timeout 2s;
      proxy_send_timeout 60s;
      proxy_read_timeout 60s;
    }}
  }}
  server {{
    listen 127.0.0.1:{setup.admin};
    location / {{ stub_status; access_log off; }}
  }}
"""))
        return nginx_command(self.program, setup.directory, config)


def nginx_around(directory, workers, http):
    """A configuration that touches nothing outside of its directory."""
    paths = "\n".join(f"  {kind}_temp_path {directory}/{kind};"
                      for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""
worker_processes {workers};
worker_rlimit_nofile 16384;
pid {directory}/pid;
daemon off;
error_log {directory}/errors warn;
events {{ worker_connections 8192; }}
http {{
{paths}
  keepalive_requests 1000000000;
  tcp_nodelay on;
{http}}}
"""


def nginx_command(program, directory, config):
    return [program, "-p", directory, "-e", f"{directory}/errors", "-c", config]


class Envoy(Peer):
    name = "Envoy"
    metrics = "/stats/prometheus"
    version_pattern = r"(?<=/)\d+\.\d+\.\d+"

    def command(self, setup):
        row = setup.row
        config = setup.write("envoy.json", json.dumps({
            "admin": {"address": address(setup.admin)},
            "static_resources": {
                "listeners": [self.listener(setup)],
                "clusters": [self.cluster(setup)],
            },
        }))
        return [self.program, "-c", config, "--concurrency", row.workers, "--disable-hot-restart", "-l", "error"]

    def listener(self, setup):
        row = setup.row
        kinds = "type.googleapis.com/envoy.extensions"
        manager = {
            "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "main",
            "use_remote_address": True,
            "generate_request_id": False,
            "request_headers_timeout": "10s",
            "common_http_protocol_options": {"idle_timeout": "60s"},
            "route_config": {"virtual_hosts": [{
                "name": "shop", "domains": [HOST, f"{HOST}:*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "shop", "timeout": "60s"}}],
            }]},
            "http_filters": [{
                "name": "router", "typed_config": {"@type": f"{kinds}.filters.http.router.v3.Router"},
            }],
        }
        if row.log:
            manager["access_log"] = [{"name": "file", "typed_config": {
                "@type": f"{kinds}.access_loggers.file.v3.FileAccessLog", "path": str(setup.log)}}]
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if row.tls:
            pem = {"filename": str(setup.certificate)}
            chain["transport_socket"] = {"name": "tls", "typed_config": {
                "@type": f"{kinds}.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                                   "tls_maximum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [{"certificate_chain": pem, "private_key": pem}],
                },
            }}
        return {"name": "main", "address": address(setup.port), "filter_chains": [chain],
                "enable_reuse_port": True}

    def cluster(self, setup):
        endpoints = [{"endpoint": {"address": address(port)}} for port in setup.endpoints]
        many = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192}
        return {
            "name": "shop", "type": "STATIC", "lb_policy": "LEAST_REQUEST", "connect_timeout": "2s",
            "circuit_breakers": {"thresholds": [many]},
            "load_assignment": {"cluster_name": "shop", "endpoints": [{"lb_endpoints": endpoints}]},
        }


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Traefik(Peer):
    name = "Traefik"
    version_arguments = ["version"]

    def environment_of(self, row):
        return {"GOMAXPROCS": str(row.workers)}

    def command(self, setup):
        row = setup.row
        router = {"rule": f"Host(`{HOST}`)", "service": "shop", "entryPoints": ["main"]}
        dynamic = {"http": {
            "routers": {"shop": router},
            "services": {"shop": {"loadBalancer": {
                "servers": [{"url": f"http://127.0.0.1:{port}"} for port in setup.endpoints]}}},
        }}
        if row.tls:
            router["tls"] = {}
            pem = str(setup.certificate)
            dynamic["tls"] = {"certificates": [{"certFile": pem, "keyFile": pem}],
                              "options": {"default": {"minVersion": "VersionTLS13"}}}
        # JSON is YAML.
        routes = setup.write("routes.yml", json.dumps(dynamic))
        options = {
            "global.checknewversion": "false", "global.sendanonymoususage": "false",
            "entrypoints.main.address": f"127.0.0.1:{setup.port}",
            "entrypoints.admin.address": f"127.0.0.1:{setup.admin}",
            "entrypoints.main.transport.respondingtimeouts.readtimeout": "60s",
            "entrypoints.main.transport.respondingtimeouts.idletimeout": "60s",
            "serverstransport.maxidleconnsperhost": "256",
            "serverstransport.forwardingtimeouts.dialtimeout": "2s",
            "serverstransport.forwardingtimeouts.responseheadertimeout": "60s",
            "providers.file.filename": routes, "providers.file.watch": "false",
            "ping.entrypoint": "admin",
        }
        if row.metrics:
            options |= {"metrics.prometheus": "true", "metrics.prometheus.entrypoint": "admin"}
        if row.log:
            options |= {"accesslog": "true", "accesslog.filepath": setup.log, "accesslog.format": "json",
                        "accesslog.bufferingsize": "100"}
        return [self.program, *(f"--{name}={value}" for name, value in options.items())]


# In the order of the table's columns; with the names under which programs are looked for.
PEERS = {
    "hiveway": (Hiveway, ()),
    "bare": (Bare, ()),
    "haproxy": (Haproxy, ("haproxy",)),
    "haproxy-plain": (PlainHaproxy, ("haproxy",)),
    "nginx": (Nginx, ("nginx",)),
    "envoy": (Envoy, ("envoy",)),
    "traefik": (Traefik, ("traefik",)),
}
