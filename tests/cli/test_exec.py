"""`egress exec`: its guide's commands can be given, and what it tells at the end is what the guide shows."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks
from typer.main import get_command

from egress.audit import AuditWriter, DecisionEvent
from egress.cli.exec import _definition, _placed
from egress.cli.exec_told import told
from egress.cli.main import app
from egress.config import SandboxDefinition, ServerOverrides, load_server_config
from egress.policy import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config import ServerConfig

GUIDE = ROOT / "docs" / "guides" / "exec.md"
LINES = [
    line.removeprefix("sudo ")
    for block in blocks(GUIDE, "sh")
    for line in block.text.splitlines()
    if "egress exec" in line
]
NAME = "exec-5f21c0de"


def server(folder: Path) -> ServerConfig:
    """A configuration with a state folder of its own."""
    return load_server_config(None, ServerOverrides(policies=("deny-all",)), {"EGRESS_STATE_DIR": str(folder)})


@pytest.mark.parametrize("line", LINES)
def test_the_guides_commands_can_be_given(line: str) -> None:
    """Every option is one, and what comes after `--` is the command, options and all."""
    words = shlex.split(line)
    command = get_command(app).commands["exec"]  # type: ignore[attr-defined]
    context = command.make_context("exec", words[2:])
    assert list(context.params["command"]) == words[words.index("--") + 1 :]


def test_what_was_denied_is_told_as_the_guide_shows(tmp_path: Path) -> None:
    """By host and reason, the most frequent first; another sandbox or an earlier start is not told."""
    began = time.time()
    placed = _placed(server(tmp_path), SandboxDefinition(Sandbox(NAME)))
    writer = AuditWriter(placed.audit.path, flush_interval=0.02)
    writer.start()
    rows = [
        ("upload.example", "host-not-allowed", NAME, 1.0),
        ("upload.example", "host-not-allowed", NAME, 2.0),
        ("api.github.com", "rule-deny", NAME, 3.0),
        ("other.example", "host-not-allowed", "another", 4.0),
        ("earlier.example", "host-not-allowed", NAME, -60.0),
    ]
    for number, (host, reason, sandbox, after) in enumerate(rows):
        writer.offer(
            DecisionEvent(
                id=f"01j000000000000000000000{number:02}",
                time_us=int((began + after) * 1_000_000),
                sandbox=sandbox,
                client="127.0.0.1:1",
                verdict="deny",
                reason=reason,
                host=host,
                port=443,
                protocol="https",
            )
        )
    writer.close(timeout=5)
    (shown,) = (block.text for block in blocks(GUIDE, "text"))
    assert "\n".join(told(placed, began)) + "\n" == shown.replace(
        "/home/me/.local/state/egress/audit.db", str(placed.audit.path)
    )


def test_nothing_denied_is_nothing_told(tmp_path: Path) -> None:
    """Not a line."""
    placed = _placed(server(tmp_path), SandboxDefinition(Sandbox(NAME)))
    writer = AuditWriter(placed.audit.path, flush_interval=0.02)
    writer.start()
    writer.close(timeout=5)
    assert list(told(placed, time.time())) == []


def test_each_start_is_a_sandbox_of_its_own(tmp_path: Path) -> None:
    """Told by nothing but being the only client; its name is new each time."""
    names = {_definition(server(tmp_path), None).name for _ in range(3)}
    assert len(names) == 3
    placed = _placed(server(tmp_path), SandboxDefinition(Sandbox(NAME), uids=(5,), listener=("127.0.0.1", 1)))
    assert placed.sandboxes == (SandboxDefinition(Sandbox(NAME)),)
