"""The origin: nginx with one worker, plain and with TLS, and the paths that the load asks for."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.driver.authority import Authority
from bench.driver.machine import ALLOWED, free_port
from bench.driver.processes import Program, ProgramError

if TYPE_CHECKING:
    from pathlib import Path

# What `GET /100k` and the others give; the load holds each answer to its length.
SIZES: Final = {"small": 600, "100k": 100_000, "100m": 100_000_000, "1g": 1_000_000_000}

# /sink reads a whole body, then answers: the second server answers in its place, without the body. /checked answers
# only a request that carries a credential.
CONFIG: Final = """
worker_processes 1;
daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 30000; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 0;
    client_body_buffer_size 256k;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    upstream answer {{ server 127.0.0.1:{answer}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{plain} backlog=16384;
        listen 127.0.0.1:{tls} ssl backlog=16384;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_session_cache shared:sessions:4m;
        root {www};
        location /sink {{
            proxy_pass http://answer;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_pass_request_body off;
        }}
        location /checked {{ if ($http_authorization = "") {{ return 401; }} return 200 "checked"; }}
        location /denied {{ return 200 "nobody should read this"; }}
    }}
    server {{ listen 127.0.0.1:{answer}; location / {{ return 200 "taken"; }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """The running origin: its ports, and the file of the CA that vouches for it."""

    program: Program
    plain_port: int
    tls_port: int
    ca_file: Path


def start_origin(folder: Path, scratch: Path) -> Origin:
    """Start it in `folder`; bodies that it takes are held in `scratch`, which should be memory."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if nginx is None:
        raise ProgramError("nginx, the origin, is not installed: the Debian package is nginx-light")
    www = folder / "www"
    www.mkdir(parents=True)
    for name, size in SIZES.items():
        with (www / name).open("wb") as file:
            file.truncate(size)
    authority = Authority.make(folder / "ca", "bench origin CA")
    certificate, key = authority.issue(ALLOWED)
    plain, tls, answer = free_port(), free_port(), free_port()
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(
            folder=folder,
            scratch=scratch,
            www=www,
            plain=plain,
            tls=tls,
            answer=answer,
            certificate=certificate,
            key=key,
        )
    )
    command = [nginx, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    return Origin(
        Program.start("nginx", command, env={}, port=tls, folder=folder, core=None),
        plain,
        tls,
        authority.certificate_file,
    )
