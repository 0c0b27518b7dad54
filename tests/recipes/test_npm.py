"""npm by its recipe: install and publish with a placeholder, at a registry that takes the real token alone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest
from documents import blocks
from rig.proxy import port_of
from rig.recipes import FOLDER, policies, sandbox
from rig.services import Answer, Services, behind, shelf, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.recipes import Sandbox
    from rig.services import Asked, Service

pytestmark = pytest.mark.e2e

HOST = "npm.corp.example"
TOKEN = "npm_0123456789abcdef0123456789abcdefreal"
(POLICY,) = policies("npm.md")
(NPMRC,) = [block.text for block in blocks(FOLDER / "npm.md", "ini")]


def registry(port: int, *names: str) -> Service:
    """A registry of packages at version 1.0.0, which takes what is published."""
    files = {}
    for name in names:
        manifest = {"name": name, "version": "1.0.0", "main": "index.js"}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path, text in {"package.json": json.dumps(manifest), "index.js": "module.exports = 42\n"}.items():
                entry = tarfile.TarInfo(f"package/{path}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        whole = "sha512-" + base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
        tarball = f"/{name}/-/{name.split('/')[-1]}-1.0.0.tgz"
        dist = {"tarball": f"https://{HOST}:{port}{tarball}", "integrity": whole}
        data = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
        said = Answer(200, json.dumps(data).encode(), {"Content-Type": "application/json"})
        files |= {f"/{name.replace('/', '%2f')}": said, f"/{name}": said}
        files[tarball] = Answer(200, packed.getvalue(), {"Content-Type": "application/octet-stream"})
    read = shelf(files)

    def serve(asked: Asked) -> Answer:
        if asked.method == "PUT":
            return Answer(201, b"{}", {"Content-Type": "application/json"})
        if asked.path == "/-/whoami":
            return Answer(200, b'{"username": "somebody"}', {"Content-Type": "application/json"})
        return read(asked)

    return serve


def make(start: Callable[..., Proxy], origin: Origins, home: Path) -> Sandbox:
    """A sandbox with the page's `.npmrc`."""
    port = port_of(origin)
    inside = sandbox(start, home, POLICY, port, {"registry": TOKEN})
    home.joinpath(".npmrc").write_text(NPMRC.replace(HOST, f"{HOST}:{port}"))
    return inside


def npm(inside: Sandbox, *words: str, cwd: Path | None = None, **more: str) -> tuple[int, str]:
    """Run npm; its status and all that it says."""
    options = ("--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries", "0")
    done = inside.run("npm", *words, *options, cwd=cwd, npm_config_loglevel="http", **more)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("coded", [False, True], ids=["plain", "gzip"])
def test_npm_installs_and_publishes_with_a_placeholder(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path, *, coded: bool
) -> None:
    """Scoped packages too. The published package is over a megabyte, and goes up whole."""
    port = port_of(origin)
    inside = make(start, origin, tmp_path / "home")
    served = behind(registry(port, "tinything", "@acme/lib"), f"Bearer {TOKEN}")
    services = Services({HOST: zipped_data(served) if coded else served})
    user = inside.home / "user"
    user.mkdir()
    user.joinpath("package.json").write_text('{"name": "user", "version": "1.0.0"}')
    tool = inside.home / "tool"
    tool.mkdir()
    tool.joinpath("package.json").write_text('{"name": "@acme/tool", "version": "1.0.0"}')
    tool.joinpath("big.txt").write_bytes(
        base64.b64encode(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(50_000)))
    )
    with origin.behaving(services.behave):
        code, said = npm(inside, "install", "tinything", "@acme/lib", cwd=user)
        assert code == 0, said
        code, said = npm(inside, "publish", "--access", "restricted", cwd=tool)
        assert code == 0, said
    assert (user / "node_modules/@acme/lib/index.js").read_text() == "module.exports = 42\n"
    assert {asked.credential for asked in services.asked} == {f"Bearer {TOKEN}"}
    (published,) = [asked for asked in services.asked if asked.method == "PUT"]
    assert len(published.body) > 1_000_000
    assert "@acme/tool" in json.loads(published.body)["name"]
    assert inside.held["NPM_TOKEN"].startswith("npm_egress")
    assert inside.refused == []
    assert TOKEN not in "".join(path.read_text(errors="replace") for path in inside.home.rglob("*") if path.is_file())


def zipped_data(service: Service) -> Service:
    """Package data in gzip; tarballs, which are gzip of their own, as they are."""
    coded = zipped(service)
    return lambda asked: service(asked) if "/-/" in asked.path else coded(asked)


def test_a_token_that_goes_to_another_registry_is_stopped(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """A package that rewrites `.npmrc` sends the placeholder away, and nothing is sent."""
    port = port_of(origin)
    inside = make(start, origin, tmp_path / "home")
    evil = NPMRC.replace(HOST, f"elsewhere.test:{port}")
    inside.home.joinpath(".npmrc").write_text(evil)
    with origin.behaving(Services({}).behave):
        code, said = npm(inside, "view", "tinything")
    assert code != 0
    assert "403" in said
    assert origin.connections == []


def test_npm_without_a_token_is_not_let_in(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """Reading needs the placeholder where the page swaps, and publishing is refused without it."""
    port = port_of(origin)
    inside = make(start, origin, tmp_path / "home")
    inside.home.joinpath(".npmrc").write_text(f"registry=https://{HOST}:{port}/\n")
    services = Services({HOST: behind(registry(port, "tinything"), f"Bearer {TOKEN}")})
    with origin.behaving(services.behave):
        code, said = npm(inside, "view", "tinything")
    assert code != 0
    assert "401" in said
    assert {asked.credential for asked in services.asked} == {""}
