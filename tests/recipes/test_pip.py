"""pip by its recipe: an index that wants a password, and a sandbox that has none."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import zipfile
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
    from rig.services import Service

pytestmark = pytest.mark.e2e

HOST = "pip.corp.example"
TOKEN = "index-token-0123456789-real"
CREDENTIAL = "Basic " + base64.b64encode(f"reader:{TOKEN}".encode()).decode()
(POLICY,) = policies("pip.md")
(CONF,) = [block.text for block in blocks(FOLDER / "pip.md", "ini")]


def wheel(name: str, needs: str = "") -> bytes:
    """The smallest wheel, with enough in it that parts of it could be asked for."""
    about = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n" + (f"Requires-Dist: {needs}\n" if needs else "")
    noise = base64.b64encode(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(2_000))).decode()
    files = {
        f"{name}.py": f"ANSWER = 42\nNOISE = '{noise}'\n",
        f"{about}/METADATA": metadata,
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


def index(*, binary: str = "application/octet-stream") -> Service:
    """An index of two packages, of which one needs the other."""
    files = {}
    for name, data in {"tinypack": wheel("tinypack", "tinydep"), "tinydep": wheel("tinydep")}.items():
        file = f"/files/{name}-1.0-py3-none-any.whl"
        digest = hashlib.sha256(data).hexdigest()
        page = f'<!DOCTYPE html><html><body><a href="{file}#sha256={digest}">{file[7:]}</a></body></html>'
        files[f"/simple/{name}/"] = Answer(200, page.encode(), {"Content-Type": "text/html"})
        files[file] = Answer(200, data, {"Content-Type": binary})
    return shelf(files)


def pip(inside: Sandbox, port: int, *words: str) -> tuple[int, str]:
    """Run pip with the page's configuration; its status and all that it says."""
    inside.home.joinpath("pip.conf").write_text(CONF.replace(HOST, f"{HOST}:{port}"))
    done = inside.run(
        *(sys.executable, "-m", "pip", "install", "-vv", "--no-cache-dir", "--disable-pip-version-check"),
        *("--retries", "0", "--timeout", "10", "--target", str(inside.home / "got"), *words),
        PIP_CONFIG_FILE=str(inside.home / "pip.conf"),
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["plain", "gzip", "parts"])
def test_pip_installs_without_a_credential(
    case: str, start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """From an index that compresses as well, and where pip would rather read a part of each wheel first."""
    port = port_of(origin)
    service = behind(index(), CREDENTIAL)
    services = Services({HOST: zipped(service) if case == "gzip" else service})
    inside = sandbox(start, tmp_path / "home", POLICY, port, {"index": TOKEN})
    options = ["--use-feature=fast-deps"] if case == "parts" else []
    with origin.behaving(services.behave):
        code, said = pip(inside, port, "tinypack", *options)
    assert code == 0, said
    assert (inside.home / "got/tinydep.py").read_text().startswith("ANSWER = 42\n")
    assert {asked.credential for asked in services.asked} == {CREDENTIAL}
    assert [asked for asked in services.asked if "range" in asked.fields] == []
    # Whoever believed that parts can be had would read the whole wheel for each.
    read = [asked.path for asked in services.asked if asked.method == "GET" and asked.path.startswith("/files/")]
    assert sorted(read) == ["/files/tinydep-1.0-py3-none-any.whl", "/files/tinypack-1.0-py3-none-any.whl"]
    assert inside.refused == []
    assert TOKEN not in said


def test_pip_shows_why_it_is_refused(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """A path that the policy does not allow is a 403."""
    port = port_of(origin)
    inside = sandbox(start, tmp_path / "home", POLICY, port, {"index": TOKEN})
    code, said = pip(inside, port, "--index-url", f"https://{HOST}:{port}/other/", "tinypack")
    assert code != 0
    assert "403" in said
    assert "path-not-allowed" in said
