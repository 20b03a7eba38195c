"""The proxies before a server of gRPC, each with one worker: as they are by default, and tuned for calls that take long
and come many at once on one connection, as their documentation says how."""

import json

from peers import address, nginx_around, nginx_command


def hiveway(directory, program, port, admin, server, tuned):
    (directory / "services.toml").write_text(f"""
[services.temporal]
endpoints = ["{server}"]
hiveway.protocol = "grpc"
""")
    # The stack's listener for Temporal has this setting.
    streams = "max-streams = 10000\n" if tuned else ""
    (directory / "hiveway.toml").write_text(f"""
[runtime]
workers = 1
[listeners.temporal]
address = "127.0.0.1:{port}"
{streams}[provider]
kind = "file"
path = "services.toml"
[admin]
address = "127.0.0.1:{admin}"
[drain]
delay = "0s"
timeout = "1s"
""")
    return [program, "edge", "--config", directory / "hiveway.toml"], {}


def haproxy(directory, program, port, admin, server, tuned):
    streams = "tune.h2.max-concurrent-streams 10000" if tuned else ""
    times = "2m" if tuned else "50s"
    (directory / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  {streams}
defaults
  mode http
  timeout connect 5s
  timeout client {times}
  timeout server {times}
  {"option abortonclose" if tuned else ""}
frontend main
  bind 127.0.0.1:{port} proto h2
  default_backend temporal
backend temporal
  server one {server} proto h2
""")
    return [program, "-db", "-f", directory / "haproxy.cfg"], {}


def nginx(directory, program, port, admin, server, tuned):
    tuning = """
    http2_max_concurrent_streams 10000;
    grpc_read_timeout 2m;
    grpc_send_timeout 2m;
    client_max_body_size 0;""" if tuned else ""
    keep = "keepalive 1000; keepalive_requests 1000000000;" if tuned else ""
    text = nginx_around(directory, 1, f"""
  access_log off;
  upstream temporal {{ server {server}; {keep} }}
  server {{
    listen 127.0.0.1:{port} http2;{tuning}
    location / {{ grpc_pass grpc://temporal; }}
  }}
""")
    if not tuned:
        text = text.replace("keepalive_requests 1000000000;", "")
    (directory / "nginx.conf").write_text(text)
    return nginx_command(program, directory, directory / "nginx.conf"), {}


def envoy(directory, program, port, admin, server, tuned):
    kinds = "type.googleapis.com/envoy.extensions"
    host, server_port = server.split(":")
    route = {"cluster": "temporal", **({"timeout": "0s"} if tuned else {})}
    manager = {
        "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "main", "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]},
        "http_filters": [{"name": "router",
                          "typed_config": {"@type": f"{kinds}.filters.http.router.v3.Router"}}],
    }
    options = {"@type": f"{kinds}.upstreams.http.v3.HttpProtocolOptions",
               "explicit_http_config": {"http2_protocol_options": {}}}
    cluster = {
        "name": "temporal", "type": "STATIC", "connect_timeout": "5s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": "temporal", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(server_port)}}}}]}]},
    }
    if tuned:
        manager["http2_protocol_options"] = {"max_concurrent_streams": 10000}
        many = {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}
        cluster["circuit_breakers"] = {"thresholds": [many]}
    (directory / "envoy.json").write_text(json.dumps({
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "main", "address": address(port), "filter_chains": [
                {"filters": [{"name": "http", "typed_config": manager}]}]}],
            "clusters": [cluster]},
    }))
    return [program, "-c", directory / "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"], {}


def traefik(directory, program, port, admin, server, tuned):
    (directory / "routes.yml").write_text(json.dumps({"http": {
        "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "temporal", "entryPoints": ["main"]}},
        "services": {"temporal": {"loadBalancer": {"servers": [{"url": f"h2c://{server}"}]}}},
    }}))
    options = {
        "global.checknewversion": "false", "global.sendanonymoususage": "false",
        "entrypoints.main.address": f"127.0.0.1:{port}",
        "providers.file.filename": directory / "routes.yml", "providers.file.watch": "false",
    }
    if tuned:
        options |= {"entrypoints.main.http2.maxconcurrentstreams": "10000",
                    "entrypoints.main.transport.respondingtimeouts.readtimeout": "0"}
    return [program, *(f"--{name}={value}" for name, value in options.items())], {"GOMAXPROCS": "1"}


# With the names under which their programs are looked for.
PEERS = {
    "Hiveway": (hiveway, ""),
    "HAProxy": (haproxy, "haproxy"),
    "nginx": (nginx, "nginx"),
    "Envoy": (envoy, "envoy"),
    "Traefik": (traefik, "traefik"),
}
