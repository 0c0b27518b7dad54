"""The wheel: what `pip install` of a build of this checkout puts in place."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build a wheel as the Dockerfile does, from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("egress", "policies"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, capture_output=True, timeout=110
    )
    return zipfile.ZipFile(next(folder.glob("egress-*.whl")))


def test_the_wheel_carries_every_module_and_every_shipped_policy(wheel: zipfile.ZipFile) -> None:
    """What a checkout finds beside its code, an installation finds too: `--policy starter` works anywhere."""
    names = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "egress").rglob("*.py")}
    folder = ROOT / "policies"
    policies = {f"egress/config/shipped/{path.relative_to(folder)}" for path in folder.rglob("*.yaml")}
    assert {Path(path).parent.name for path in policies} == {"shipped", "presets", "multi-tenant", "tests"}
    assert modules | policies <= names


def test_the_wheel_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    """No tests, benchmarks or state come along; beside the package there is only its metadata and licence."""
    assert {name.partition("/")[0] for name in wheel.namelist()} <= {"egress"} | {
        name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name
    }
    kinds = {Path(name).suffix for name in wheel.namelist() if name.startswith("egress/")}
    assert kinds <= {".py", ".yaml", ".json"}


def test_the_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    """The console script `egress` is declared, and the licence text is inside."""
    texts = {Path(name).name: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name}
    assert "egress = egress.cli.main:main" in texts["entry_points.txt"]
    assert texts["LICENSE"] == (ROOT / "LICENSE").read_text()
