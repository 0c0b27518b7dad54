"""What each part loads when it runs, and which words of Python stay in which room.

Import contracts read the source; these tests look at `sys.modules` of a fresh process, where an import inside a
function, or one made by a library, shows too.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "egress").rglob("*.py"))

# What a pure room must not load, not even through a library.
INPUT_OUTPUT = frozenset(
    {
        "asyncio",
        "http.client",
        "multiprocessing",
        "selectors",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "urllib.request",
    }
)
LIBRARIES = frozenset({"cryptography", "dns", "httpx", "mitmproxy", "pydantic", "rich", "ruamel", "typer", "uvloop"})

MODULES = """
import json, sys
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""

# Its last line names the modules; what the command itself prints stands before it.
COMMAND = """
import json, sys
from egress.cli.main import main
sys.argv = ["egress", *json.loads(sys.argv[1])]
code = 0
try:
    main()
except SystemExit as stop:
    code = stop.code
print()
print(json.dumps([code, sorted(sys.modules)]))
"""

POLICY = "version: 1\nrules:\n  - allow: api.example.com\n"


def python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(module: str) -> frozenset[str]:
    """Name the modules that importing one module loads."""
    return frozenset(json.loads(python(MODULES.format(module=module))))


def command(*arguments: str) -> tuple[int, str, frozenset[str]]:
    """Run one command of the CLI; give its exit code, what it printed, and the modules loaded at its end."""
    printed, _, last = python(COMMAND, json.dumps(arguments)).rstrip("\n").rpartition("\n")
    code, modules = json.loads(last)
    return code or 0, printed, frozenset(modules)


def belongs(modules: frozenset[str], *packages: str) -> list[str]:
    """Pick the modules that are one of these packages or stand in one."""
    return sorted(name for name in modules if any(name == one or name.startswith(f"{one}.") for one in packages))


@pytest.mark.parametrize("room", ["egress.policy", "egress.wire.head", "egress.wire.client_hello", "egress.errors"])
def test_pure_rooms_load_no_input_output(room: str) -> None:
    """The policy core and the wire parsers load no module that can reach a file, a socket or a process."""
    modules = loaded(room)
    assert room in modules
    assert belongs(modules, *INPUT_OUTPUT, *LIBRARIES) == []


def test_explain_loads_neither_mitmproxy_nor_credentials(tmp_path: Path) -> None:
    """`egress explain` answers from the policy alone, so it starts fast and never touches a secret's value."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    code, printed, modules = command("explain", "https://api.example.com/", "--policy", str(policy), "--json")
    assert (code, json.loads(printed)["verdict"]) == (0, "allow")
    assert belongs(modules, "mitmproxy", "egress.credentials", "egress.mitm", "egress.gate", "egress.server") == []


def test_audit_loads_neither_mitmproxy_nor_credentials(tmp_path: Path) -> None:
    """`egress audit` reads the database beside the proxy, so it starts fast and never touches a secret's value."""
    _, _, modules = command("audit", "--limit", "1", "--state-dir", str(tmp_path))
    assert belongs(modules, "egress.audit")
    assert belongs(modules, "mitmproxy", "egress.credentials", "egress.mitm", "egress.gate", "egress.server") == []


@pytest.mark.parametrize("module", ["egress.viewer.app", "egress.cli.audit_desk"])
def test_the_viewer_loads_neither_mitmproxy_nor_credentials(module: str) -> None:
    """Nor does what it asks a policy with: a reviewer needs no secrets, and no code that reads them."""
    modules = loaded(module)
    assert belongs(modules, "egress.viewer")
    assert belongs(modules, "mitmproxy", "egress.credentials", "egress.mitm", "egress.gate", "egress.server") == []


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("audit", "--help"), ("policy", "--help")])
def test_help_starts_without_the_heavy_parts(arguments: tuple[str, ...]) -> None:
    """Help loads neither mitmproxy nor what a command needs only when it runs (typer itself may load pydantic)."""
    code, printed, modules = command(*arguments)
    assert (code, "Usage" in printed) == (0, True)
    assert belongs(modules, "mitmproxy", "ruamel", "sqlite_utils", "egress.config", "egress.gate") == []


@pytest.mark.parametrize("source", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_only_the_command_line_writes_to_standard_output(source: Path) -> None:
    """No room but cli prints or names `sys.stdout`: a library that prints breaks `--json` and leaks wire text."""
    if (ROOT / "egress" / "cli") in source.parents:
        return
    tree = ast.parse(source.read_text())
    printing = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "print")
        or (
            isinstance(node, ast.Attribute)
            and node.attr in {"stdout", "__stdout__"}
            and isinstance(node.value, ast.Name)
            and node.value.id == "sys"
        )
        or (isinstance(node, ast.alias) and node.name in {"stdout", "__stdout__"})
    ]
    assert printing == []


def test_every_room_has_a_docstring_that_says_what_it_is_for() -> None:
    """Each module's first line says what the module is responsible for."""
    missing = [str(path.relative_to(ROOT)) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert missing == []
