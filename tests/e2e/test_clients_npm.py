"""npm through the proxy, from a registry folder that nginx serves: a static packument and a tarball."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

from harness.station import KEY

if TYPE_CHECKING:
    from pathlib import Path

    from harness.station import Station


def publish(registry: Path, name: str, url: str) -> None:
    """Lay a package out as a registry serves it."""
    manifest = {"name": name, "version": "1.0.0", "main": "index.js"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in {"package.json": json.dumps(manifest), "index.js": "module.exports = 42\n"}.items():
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    data = packed.getvalue()
    shelf = registry / name
    (shelf / "-").mkdir(parents=True)
    (shelf / "-" / f"{name}-1.0.0.tgz").write_bytes(data)
    whole = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    dist = {"tarball": f"{url}/{name}/-/{name}-1.0.0.tgz", "integrity": whole}
    packument = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
    shelf.joinpath("index.json").write_text(json.dumps(packument))


def _install(station: Station, registry: str, folder: Path) -> tuple[int, str]:
    folder.mkdir()
    folder.joinpath("package.json").write_text('{"name": "user", "version": "1.0.0"}')
    done = station.run(
        *("npm", "install", "--registry", registry, "--no-audit", "--no-fund", "--no-update-notifier"),
        *(
            "--cafile",
            str(station.proxy.ca_file),
            "--fetch-retries",
            "0",
            "--loglevel",
            "http",
            "--cache",
            str(folder / "cache"),
            "tinything",
        ),
        cwd=folder,
    )
    return done.returncode, done.stdout + done.stderr


def test_npm_installs_through_the_proxy(station: Station, tmp_path: Path) -> None:
    """A package comes from the allowed registry; a registry that is not allowed gives nothing."""
    publish(station.nginx.root / "npm", "tinything", "https://allowed.test/npm")
    window = station.window()
    code, said = _install(station, "https://allowed.test/npm/", tmp_path / "allowed")
    assert code == 0, said
    assert (tmp_path / "allowed/node_modules/tinything/index.js").read_text() == "module.exports = 42\n"
    seen = [one for one in window.seen(2) if one["status"] in {"200", "301"}]
    assert {one["key"] for one in seen} == {KEY}
    assert window.verdicts(len(window.seen())) == ["allow"] * len(window.seen())

    window = station.window()
    code, said = _install(station, "https://evil.test/npm/", tmp_path / "denied")
    assert code != 0
    assert "403" in said or "host-not-allowed" in said, said
    assert set(window.verdicts(1)) == {"deny"}
