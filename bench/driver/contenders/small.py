"""tinyproxy and HAProxy: peers that open no TLS."""

from __future__ import annotations

from typing import Final

from bench.driver.contenders import NO_HOSTS_FILE, Absent, Contender, Lane, Site, output
from bench.driver.installing import found
from bench.driver.machine import ALLOWED, free_port, most_tunnels

TINYPROXY: Final = """
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients {most}
LogFile "{folder}/access.log"
LogLevel Connect
PidFile "{folder}/tinyproxy.pid"
FilterType ere
Filter "{folder}/filter"
FilterDefaultDeny Yes
"""
# CONNECT is not what HAProxy terminates: it would hand it to a server. Plain HTTP with one backend is what applies.
HAPROXY: Final = """
global
    maxconn {most}
    log {log} format raw local0
    nbthread 1
defaults
    mode http
    log global
    option httplog
    timeout connect 10s
    timeout client 600s
    timeout server 600s
frontend proxy
    bind 127.0.0.1:{port}
    acl allowed hdr(host) -i {host}:{plain}
    http-request deny deny_status 403 if METH_CONNECT or !allowed
    default_backend origin
backend origin
    http-reuse always
    server origin 127.0.0.1:{plain}
"""


def tinyproxy(site: Site) -> Contender:
    """Tunnels and plain HTTP, a new upstream connection for each request."""
    program = found("tinyproxy")
    if program is None:
        raise Absent("the Debian package tinyproxy-bin is not installed")
    if not site.private:
        raise Absent(NO_HOSTS_FILE)
    folder, port = site.place("tinyproxy"), free_port()
    (folder / "filter").write_text(f"^{ALLOWED}$\n".replace(".", r"\."))
    (folder / "tinyproxy.conf").write_text(TINYPROXY.format(port=port, folder=folder, most=most_tunnels()))
    started = site.start("tinyproxy", [program, "-d", "-c", str(folder / "tinyproxy.conf")], port)
    version = output(program, "-v").rpartition(" ")[2]
    return Contender(
        "tinyproxy", version, frozenset({Lane.TUNNEL, Lane.PLAIN}), started, site.authority.certificate_file
    )


def haproxy(site: Site) -> Contender:
    """Plain HTTP to one backend."""
    program = found("haproxy")
    if program is None:
        raise Absent("the Debian package haproxy is not installed")
    folder, port = site.place("haproxy"), free_port()
    (folder / "haproxy.cfg").write_text(
        HAPROXY.format(port=port, host=ALLOWED, plain=site.origin.plain_port, log="stdout", most=most_tunnels())
    )
    started = site.start("haproxy", [program, "-db", "-f", str(folder / "haproxy.cfg")], port)
    version = output(program, "-v").split()[2]
    return Contender("haproxy", version, frozenset({Lane.PLAIN}), started, site.authority.certificate_file)
