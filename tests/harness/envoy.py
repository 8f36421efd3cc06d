"""Envoy in front of pods, balancing request by request, with gRPC health checks."""

import json
import socket

from harness.programs import Program, wait_until


def config(port, admin_port, pods):
    def endpoint(address):
        host, port = address.rsplit(":", 1)
        return {"endpoint": {"address": {"socket_address": {
            "address": host, "port_value": int(port)}}}}

    http2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
                 "HttpConnectionManager",
        "stat_prefix": "sandboxd",
        "codec_type": "HTTP2",
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{
            "name": "sandboxd", "domains": ["*"],
            # A stream lives as long as its command.
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "pods", "timeout": "0s"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    }
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "static_resources": {
            "listeners": [{
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager}]}]}],
            "clusters": [{
                "name": "pods", "type": "STATIC", "connect_timeout": "1s", "lb_policy": "ROUND_ROBIN",
                "typed_extension_protocol_options": http2,
                # Where no pod is healthy, any is better than none.
                "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
                "health_checks": [{
                    "timeout": "0.5s", "interval": "0.25s", "no_traffic_interval": "0.25s",
                    "unhealthy_threshold": 2, "healthy_threshold": 1, "grpc_health_check": {}}],
                "load_assignment": {"cluster_name": "pods", "endpoints": [
                    {"lb_endpoints": [endpoint(address) for address in pods]}]}}],
        },
    }


class Envoy(Program):
    """binary: Envoy's; pods: addresses."""

    def __init__(self, binary, pods, directory):
        with socket.create_server(("127.0.0.1", 0)) as one, \
                socket.create_server(("127.0.0.1", 0)) as two:
            port, admin_port = one.getsockname()[1], two.getsockname()[1]
        path = directory / "envoy.json"
        path.write_text(json.dumps(config(port, admin_port, pods)), encoding="utf-8")
        super().__init__("envoy", [binary, "-c", path, "--concurrency", "1", "-l", "warn",
                                   "--use-dynamic-base-id"])
        self.ready = {"listen": "127.0.0.1:%d" % port}
        wait_until(self._listens, 15, "Envoy")

    def _listens(self):
        assert self.process.poll() is None, self.tail()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False
