"""Squid, the measure: once carrying tunnels and plain HTTP, once opening TLS by `ssl_bump`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from bench.driver.contenders import CREDENTIAL, Absent, Contender, Lane, Site, output
from bench.driver.installing import found
from bench.driver.machine import ALLOWED, HOSTS, free_port, open_files

COMMON: Final = """
acl allowed dstdomain {host}
acl denied_path urlpath_regex ^/denied
http_access deny denied_path
http_access allow allowed
http_access deny all
cache deny all
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
pid_filename {folder}/squid.pid
coredump_dir {folder}
hosts_file {folder}/hosts
shutdown_lifetime 1 seconds
max_filedescriptors {files}
visible_hostname squid
"""
TUNNEL: Final = "http_port 127.0.0.1:{port}\n"
BUMP: Final = """
http_port 127.0.0.1:{port} ssl-bump cert={ca} key={ca_key} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program {minter} -s {folder}/certificates -M 4MB
sslcrtd_children 2
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
tls_outgoing_options cafile={origin_ca}
request_header_access Authorization deny all
request_header_add Authorization "Bearer {credential}" all
"""
_MINTER: Final = Path("/usr/lib/squid/security_file_certgen")


def _open_to_squid(folder: Path) -> None:
    # Started by root it goes on as a user of its own, who needs these folders.
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o777 if place.is_dir() else 0o666)


def _start(site: Site, name: str, config: str, lanes: frozenset[Lane]) -> Contender:
    squid = found("squid")
    if squid is None:
        raise Absent("the Debian package squid-openssl is not installed")
    folder, port = site.place(name), free_port()
    (folder / "hosts").write_text(HOSTS)
    (folder / "squid.conf").write_text(
        (config + COMMON).format(
            folder=folder,
            port=port,
            files=open_files(),
            host=ALLOWED,
            minter=_MINTER,
            ca=site.authority.certificate_file,
            ca_key=site.authority.key_file,
            origin_ca=site.origin.ca_file,
            credential=CREDENTIAL,
        )
    )
    _open_to_squid(folder)
    # Names its shared memory: another squid of this machine has some too.
    service = f"bench{os.getpid()}x{len(config)}"
    program = site.start(name, [squid, "-N", "-n", service, "-f", str(folder / "squid.conf")], port)
    version = output(squid, "-v").rpartition(" ")[2]
    return Contender(name, version, lanes, program, site.authority.certificate_file)


def tunnel(site: Site) -> Contender:
    """Tunnels and plain HTTP."""
    return _start(site, "squid", TUNNEL, frozenset({Lane.TUNNEL, Lane.PLAIN}))


def bump(site: Site) -> Contender:
    """TLS opened."""
    name = "squid, ssl-bump"
    if not _MINTER.exists():
        raise Absent("the installed squid was built without OpenSSL: the Debian package is squid-openssl")
    folder = site.place(name)
    subprocess.run(  # noqa: S603 - squid's own helper
        [_MINTER, "-c", "-s", str(folder / "certificates"), "-M", "4MB"], check=True, stdout=subprocess.DEVNULL
    )
    return _start(site, name, BUMP, frozenset({Lane.INSPECTED}))
