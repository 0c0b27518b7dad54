"""pip through the proxy, from a local index that nginx serves."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from typing import TYPE_CHECKING

from harness.station import KEY

if TYPE_CHECKING:
    from pathlib import Path

    from harness.station import Station


def make_wheel(folder: Path, name: str) -> Path:
    """The smallest wheel, made by hand: nothing is downloaded to build it."""
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "ANSWER = 42\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: hashlib.sha256(text.encode()).digest() for path, text in files.items()}
    coded = {path: base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for path, digest in digests.items()}
    files[f"{about}/RECORD"] = "".join(f"{path},sha256={coded[path]},\n" for path in digests) + f"{about}/RECORD,,\n"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def _install(station: Station, index: str, target: str, package: str) -> tuple[int, str]:
    done = station.run(
        *(sys.executable, "-m", "pip", "--isolated", "-vv", "install", "--no-cache-dir", "--disable-pip-version-check"),
        *("--no-deps", "--retries", "0", "--timeout", "10", "--cert", str(station.proxy.ca_file)),
        *("--proxy", station.proxy.url, "--index-url", index, "--target", target, package),
    )
    return done.returncode, done.stdout + done.stderr


def test_pip_installs_through_the_proxy(station: Station, tmp_path: Path) -> None:
    """A package comes from the allowed index; an index that is not allowed gives nothing, and pip shows the reason."""
    shelf = station.nginx.root / "simple" / "tinypack"
    shelf.mkdir(parents=True)
    wheel = make_wheel(shelf, "tinypack")
    shelf.joinpath("index.html").write_text(
        f'<!DOCTYPE html><html><body><a href="{wheel.name}">{wheel.name}</a></body></html>'
    )
    window = station.window()
    code, said = _install(station, "https://allowed.test/simple/", str(tmp_path / "got"), "tinypack")
    assert code == 0, said
    assert (tmp_path / "got" / "tinypack.py").read_text() == "ANSWER = 42\n"
    seen = window.seen(2)
    assert len(seen) >= 2
    assert {one["key"] for one in seen} == {KEY}
    assert window.verdicts(len(seen)) == ["allow"] * len(seen)

    window = station.window()
    code, said = _install(station, "https://evil.test/simple/", str(tmp_path / "not"), "tinypack")
    assert code != 0
    assert "403" in said
    assert set(window.verdicts(1)) == {"deny"}
    assert not window.seen()
