"""What the stand-in server has on its shelves: a tiny package for each package manager, as its registry serves it.

Every package says `HELLO` once it is there. `@HOST@` in a text becomes the name by which the server was asked.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HELLO = "hello from the stand-in"
NAME = "tinything"


def shelf(folder: Path) -> Mapping[str, bytes]:
    """All of it: contents by path. `folder` is where the git repository is made."""
    return {
        "/hello": f"{HELLO}\n".encode(),
        "/hello.html": f"<!doctype html><title>x</title><p>{HELLO}".encode(),
        **_python(),
        **_npm(),
        **_apt(),
        **_cargo(),
        **_go(),
        **_image(),
        **_git(folder),
    }


def _tar(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text), 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def _zip(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _python() -> Mapping[str, bytes]:
    wheel = f"{NAME}-1.0-py3-none-any.whl"
    info = f"{NAME}-1.0.dist-info"
    data = _zip(
        {
            f"{NAME}.py": f"HELLO = {HELLO!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: egress\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": f"{NAME}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        }
    )
    page = f'<!doctype html><html><body><a href="/wheels/{wheel}#sha256={_sha256(data)}">{wheel}</a></body></html>'
    return {f"/simple/{NAME}/": page.encode(), f"/wheels/{wheel}": data}


def _npm() -> Mapping[str, bytes]:
    manifest = {"name": NAME, "version": "1.0.0", "main": "index.js"}
    data = _tar({"package/package.json": json.dumps(manifest), "package/index.js": f"module.exports = '{HELLO}'\n"})
    dist = {
        "tarball": f"https://@HOST@/npm/{NAME}/-/{NAME}-1.0.0.tgz",
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode(),
        "shasum": hashlib.sha1(data).hexdigest(),  # noqa: S324 -- what the format has
    }
    about = {"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
    return {f"/npm/{NAME}": json.dumps(about).encode(), f"/npm/{NAME}/-/{NAME}-1.0.0.tgz": data}


def _apt() -> Mapping[str, bytes]:
    packages = (
        f"Package: {NAME}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.test>\nDescription: {HELLO}\n"
        f"Filename: ./{NAME}.deb\nSize: 1\nSHA256: {_sha256(b'x')}\n"
    ).encode()
    release = (
        "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSuite: stable\nArchitectures: all amd64 arm64\n"
        f"SHA256:\n {_sha256(packages)} {len(packages)} Packages\n"
    )
    return {"/apt/Packages": packages, "/apt/Release": release.encode()}


def _cargo() -> Mapping[str, bytes]:
    top = f"{NAME}-1.0.0"
    manifest = f'[package]\nname = "{NAME}"\nversion = "1.0.0"\nedition = "2021"\n'
    data = _tar({f"{top}/Cargo.toml": manifest, f"{top}/src/lib.rs": f"// {HELLO}\n"})
    line = {"name": NAME, "vers": "1.0.0", "deps": [], "cksum": _sha256(data), "features": {}, "yanked": False}
    return {
        "/cargo/config.json": b'{"dl": "https://@HOST@/crates/{crate}-{version}.crate"}',
        f"/cargo/{NAME[:2]}/{NAME[2:4]}/{NAME}": json.dumps(line).encode(),
        f"/crates/{NAME}-1.0.0.crate": data,
    }


def _go() -> Mapping[str, bytes]:
    module, top = f"example.test/{NAME}", f"example.test/{NAME}@v1.0.0"
    manifest = f"module {module}\n"
    at = f"/go/{module}/@v"
    return {
        f"{at}/list": b"v1.0.0\n",
        f"{at}/v1.0.0.info": b'{"Version": "v1.0.0", "Time": "2026-01-01T00:00:00Z"}',
        f"{at}/v1.0.0.mod": manifest.encode(),
        f"{at}/v1.0.0.zip": _zip({f"{top}/go.mod": manifest, f"{top}/tiny.go": f"package tiny // {HELLO}\n"}),
    }


def _image() -> Mapping[str, bytes]:
    layer = _tar({"hello": HELLO})
    inside = f"sha256:{_sha256(gzip.decompress(layer))}"
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [inside]}}
    ).encode()
    kind = "application/vnd.oci.image"

    def part(suffix: str, data: bytes) -> Mapping[str, object]:
        return {"mediaType": f"{kind}.{suffix}", "digest": f"sha256:{_sha256(data)}", "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": part("config.v1+json", config),
            "layers": [part("layer.v1.tar+gzip", layer)],
        }
    ).encode()
    blobs = {f"/v2/{NAME}/blobs/sha256:{_sha256(data)}": data for data in (config, layer)}
    return {"/v2/": b"{}", f"/v2/{NAME}/manifests/1": manifest, **blobs}


def _git(folder: Path) -> Mapping[str, bytes]:
    """A repository as plain files, which git reads too (gitprotocol-http, "dumb")."""
    work, bare = folder / "work", folder / "bare"
    who = ("-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
    work.mkdir(parents=True)
    (work / "hello").write_text(f"{HELLO}\n")
    for command in (
        ("init", "--quiet", "--initial-branch=main", str(work)),
        ("-C", str(work), "add", "hello"),
        (*("-C", str(work)), *who, "commit", "--quiet", "--message=x"),
        ("clone", "--quiet", "--bare", str(work), str(bare)),
        ("-C", str(bare), "update-server-info"),
    ):
        subprocess.run(["git", *command], check=True, capture_output=True)
    files = (path for path in bare.rglob("*") if path.is_file())
    return {f"/{NAME}.git/{path.relative_to(bare)}": path.read_bytes() for path in files}
