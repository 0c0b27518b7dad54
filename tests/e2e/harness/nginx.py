"""A real nginx as origin: TLS from the test CA, files, git over fcgiwrap, and a log of the headers that it saw."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from harness.namespace import HarnessError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.authority import TestAuthority
    from harness.namespace import Namespace

    type Seen = dict[str, str]

NEEDED = "nginx, fcgiwrap and git: run `python3 tests/tools/system_packages.py` as root"

_CONFIG = """\
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
user root; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  log_format seen escape=json '{{"line":"$request","status":"$status","host":"$host",'
    '"protocol":"$server_protocol","key":"$http_x_api_key","agent":"$http_user_agent","proxy":"$http_proxy_authorization$http_proxy_connection",'
    '"scheme":"$scheme","expect":"$http_expect"}}';
  access_log {folder}/seen.log seen;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 0; default_type application/octet-stream;
  types {{ text/html html; application/json json; application/gzip tgz; text/plain txt; }}
  server {{
    listen {address}:80; listen {address}:443 ssl http2;
    server_name allowed.test;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    root {root};
    location / {{ index index.html; }}
    location /npm/ {{ default_type application/json; index index.json; }}
    location /echo {{ return 200 "echo $request_method\\n"; }}
    location /empty {{ return 204; }}
    location /same {{ return 304; }}
    location ~ ^/git(/.*)$ {{
      gzip off; fastcgi_pass unix:{folder}/cgi.sock; include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME {backend}; fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param GIT_PROJECT_ROOT {folder}/repositories; fastcgi_param PATH_INFO $1;
      fastcgi_param REMOTE_USER tester;
    }}
  }}
}}
"""


class Nginx:
    """Serves `root` at https and http of `address`. `seen()` is what it saw, a request each, oldest first."""

    def __init__(self, namespace: Namespace, authority: TestAuthority, folder: Path, address: str) -> None:
        self.folder, self.root, self.repositories = folder, folder / "root", folder / "repositories"
        for made in (self.root, self.repositories):
            made.mkdir(parents=True)
        certificate, key = authority.issue("allowed.test", "*.allowed.test", address)
        config = folder / "nginx.conf"
        backend = f"{_git_exec_path()}/git-http-backend"
        fill = {"folder": folder, "address": address, "certificate": certificate, "key": key, "root": self.root}
        config.write_text(_CONFIG.format(backend=backend, **fill))
        path = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        wrap = shutil.which("fcgiwrap", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if path is None or wrap is None:
            raise HarnessError(f"end-to-end tests need {NEEDED}")
        env = {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(folder)}
        self._errors = (folder / "output.log").open("wb")
        self._processes = [
            namespace.popen([wrap, "-s", f"unix:{folder}/cgi.sock"], env=env, stderr=self._errors),
            namespace.popen([path, "-c", str(config), "-p", str(folder)], env=env, stderr=self._errors),
        ]
        self._wait(namespace, address)

    def _wait(self, namespace: Namespace, address: str) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                namespace.connect((address, 443)).close()
            except OSError:
                time.sleep(0.05)
            else:
                if (self.folder / "cgi.sock").exists():
                    return
        self.close()
        raise HarnessError(f"nginx did not start: {(self.folder / 'output.log').read_text()}")

    def seen(self) -> list[Seen]:
        """The access log."""
        path = self.folder / "seen.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_seen(self, count: int, patience: float = 3.0) -> list[Seen]:
        """The access log once it has `count` lines: nginx writes a line when the answer is out."""
        deadline = time.monotonic() + patience
        while len(self.seen()) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.seen()

    def close(self) -> None:
        """Stop both processes."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._errors.close()


def _git_exec_path() -> str:
    if shutil.which("git") is None:
        raise HarnessError(f"end-to-end tests need {NEEDED}")
    return subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
