"""What the repository promises of itself: locks, documents that match the code, and words that must not appear."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, Block, CommandLine, anchors, blocks, command_lines, documents, links

if TYPE_CHECKING:
    from pathlib import Path

LOCKS = ("requirements.lock", "requirements-dev.lock")
SDK_LOCK = "tests/sdk/requirements.lock"
DOCUMENTS = documents()
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]

# Hosts of the registries whose presets ask the tool's own configuration, in parts, so that this file does not hold them
# either.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("archive", "ubuntu", "com"),
    )
]


@cache
def tracked() -> tuple[Path, ...]:
    """Give every file of the repository that git does not ignore; links are left to what they point at."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        cwd=ROOT,
    ).stdout.decode()
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


@pytest.mark.parametrize("lock", [*LOCKS, SDK_LOCK])
def test_every_locked_package_carries_a_hash_and_no_address(lock: str) -> None:
    """A lock says what, in which version and with which hashes, and leaves the where to pip's configuration."""
    text = (ROOT / lock).read_text()
    entries = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9.-]*==[^\s;]+ (; .+? )?--hash=sha256:[0-9a-f]{64}( |$)", entry), entry
    assert "://" not in text
    assert "index" not in text.replace("importlib", "")


def test_the_locks_agree_and_carry_what_must_be_there() -> None:
    """Tests run what the image runs; h2 is past CVE-2026-71554, mitmproxy before 12.3, the build backend locked."""
    run, dev = (dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS)
    assert run.items() <= dev.items()
    assert tuple(map(int, run["h2"].split("."))) >= (4, 4, 1)
    assert (12, 2, 3) <= tuple(map(int, run["mitmproxy"].split("."))) < (12, 3)
    assert "setuptools" in dev


def test_no_file_names_a_package_registry() -> None:
    """Where pip, npm and apt get packages is their configuration's to say, so no such host stands in any file."""
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in tracked()
        for host in REGISTRIES
        if host.encode() in path.read_bytes().lower()
    ]
    assert found == []


def test_text_files_end_with_a_newline_and_hold_no_trailing_blanks() -> None:
    """A diff shows what changed and nothing else."""
    kinds = {".py", ".md", ".toml", ".yaml", ".sh", ".lock", ""}
    found = []
    for path in tracked():
        readable = path.suffix in kinds and not {"corpus", "broken"} & set(path.parts)
        text = path.read_text(errors="replace") if readable else ""
        if text and (not text.endswith("\n") or re.search(r"[ \t]+$", text, re.MULTILINE)):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link inside the repository names a file that exists, and a heading that the file has."""
    broken = []
    for link in links(document):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_make_targets_that_documents_name_exist() -> None:
    """Every `make NAME` in a document is a target of the Makefile, and every listed target says what it does."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        word
        for document in DOCUMENTS
        for line in command_lines(document, "make")
        for word in line.words[1:]
        if "=" not in word and not word.startswith("-")
    }
    assert {"run", "test"} <= named
    assert named <= targets
    assert {"help", "setup", "run", "test", "check", "bench", "lock", "fmt"} <= targets


def test_continuous_integration_runs_all_tests() -> None:
    """`.ci/run` is executable, stops at the first failure, and calls `make test`."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "make test" in text


@cache
def help_of(*group: str) -> tuple[frozenset[str], frozenset[str]]:
    """Ask a command for help; give the names of its subcommands and of its options."""
    environment = os.environ | {"COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-c", "from egress.cli.main import main; main()", *group, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    commands = text.partition("Commands")[2]
    names = re.findall(r"^[\s│|]*([a-z][a-z0-9-]*)(?:\s|$)", commands, re.MULTILINE)
    return frozenset(names), frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z0-9-]*", text))


def wrong_in(line: CommandLine) -> list[str]:
    """Name the words of a command line that the program does not know."""
    group: tuple[str, ...] = ()
    rest = list(line.words[1:])
    while rest and rest[0] in help_of(*group)[0]:
        group = (*group, rest.pop(0))
    commands, options = help_of(*group)
    wrong = [f"{' '.join(group)} {rest[0]}"] if commands and rest and not rest[0].startswith("-") else []
    # What comes after `--` is another program's.
    own = rest[: rest.index("--")] if "--" in rest else rest
    return wrong + [word for word in own if word.startswith("--") and word.partition("=")[0] not in options]


LINES = [line for document in DOCUMENTS for line in command_lines(document, "egress")]


@pytest.mark.parametrize("line", LINES, ids=[str(line) for line in LINES])
def test_every_command_line_that_documents_show_exists(line: CommandLine) -> None:
    """What a document tells a reader to type, the program knows: each command, and each of its options."""
    assert wrong_in(line) == []


EXAMPLES = [
    block
    for document in DOCUMENTS
    for block in blocks(document, "yaml")
    if re.search(r"^version: 1$", block.text, re.MULTILINE)
]


@pytest.mark.parametrize("block", EXAMPLES, ids=[str(block) for block in EXAMPLES])
def test_every_policy_that_documents_show_loads(block: Block, tmp_path: Path) -> None:
    """A whole policy in a document (it states its version) is one that the program takes, without other warnings.

    The report mode never loads without a word.
    """
    from egress.config import PolicySource, load_policy
    from egress.policy import Scope

    path = tmp_path / "policy.yaml"
    path.write_text(block.text)
    warnings = load_policy([PolicySource(Scope.SANDBOX, path)]).warnings
    assert [warning.where for warning in warnings] == (["mode"] if "mode: report" in block.text else [])


def test_the_documents_show_policies_and_commands() -> None:
    """The two tests above have something to look at."""
    assert EXAMPLES
    assert LINES


def test_every_decision_record_is_numbered_once_and_stands_in_the_index() -> None:
    """The index of docs/adr lists each record, and no number is given twice."""
    folder = ROOT / "docs" / "adr"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert len({name[:4] for name in records}) == len(records)
    assert sorted(set(links(folder / "README.md")) & set(records)) == records
