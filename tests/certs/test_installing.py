"""Installing: the right folder and tool for each system, nothing where it cannot work, and everything undone again."""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from egress.certs import Authority, installing
from egress.certs.installing import Put, Remove, Run, Store, carry_out, steps
from egress.errors import StateError


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh CA."""
    return Authority.load_or_create(tmp_path / "ca")


def tools(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These are installed, and no others."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in names else None)


# The folder that a system has, the tool, and the ending that the tool wants.
SYSTEMS = [
    ("usr/local/share/ca-certificates", "update-ca-certificates", ".crt"),
    ("etc/pki/trust/anchors", "update-ca-certificates", ".pem"),
    ("etc/pki/ca-trust/source/anchors", "update-ca-trust", ".pem"),
    ("etc/ca-certificates/trust-source/anchors", "update-ca-trust", ".pem"),
]


@pytest.mark.parametrize(("folder", "tool", "ending"), SYSTEMS)
def test_a_system_is_known_by_its_folder_and_its_tool(
    *, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, folder: str, tool: str, ending: str
) -> None:
    """One certificate a file, with the ending that the tool looks for; taking it out removes that file."""
    tools(monkeypatch, tool)
    (tmp_path / folder).mkdir(parents=True)
    put, run = steps(Store.SYSTEM, authority.trusted_pem, uninstall=False, root=tmp_path)
    assert isinstance(put, Put)
    assert (put.path.parent, put.path.suffix, put.data) == (tmp_path / folder, ending, authority.certificate_pem)
    assert run == Run((tool,))
    remove, run = steps(Store.SYSTEM, authority.trusted_pem, uninstall=True, root=tmp_path)
    assert remove == Remove(put.path)
    assert isinstance(run, Run)
    assert run.command[0] == tool


@pytest.mark.parametrize(("folder", "tool"), [(None, "update-ca-certificates"), (SYSTEMS[0][0], None)])
def test_an_unknown_system_is_refused(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, folder: str | None, tool: str | None
) -> None:
    """A folder without its tool, and a tool without its folder, are no store."""
    tools(monkeypatch, *([tool] if tool else []))
    if folder:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(StateError, match="not known here") as caught:
        steps(Store.SYSTEM, authority.trusted_pem, uninstall=False, root=tmp_path)
    assert "egress env" in caught.value.hint


def test_macos_is_told_the_command(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person has to agree there."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(StateError) as caught:
        steps(Store.SYSTEM, authority.trusted_pem, uninstall=False)
    assert "security add-trusted-cert" in caught.value.hint


@pytest.mark.parametrize(("store", "tool"), [(Store.NSS, "certutil"), (Store.JAVA, "keytool")])
def test_a_missing_tool_is_named_with_its_package(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, store: Store, tool: str
) -> None:
    """Before anything is done."""
    tools(monkeypatch)
    with pytest.raises(StateError, match=f"`{tool}` is not installed") as caught:
        steps(store, authority.trusted_pem, uninstall=False)
    assert "install" in caught.value.hint


def test_what_is_put_in_is_taken_out(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real steps, with a tool that only notes that it was called; what others installed stays."""
    folder = tmp_path / "usr/local/share/ca-certificates"
    folder.mkdir(parents=True)
    (folder / "corp.crt").write_text("theirs")
    tool, noted = tmp_path / "bin" / "update-ca-certificates", tmp_path / "noted"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "called $*" >> {noted}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    carry_out(steps(Store.SYSTEM, authority.trusted_pem, uninstall=False, root=tmp_path))
    (put,) = set(folder.iterdir()) - {folder / "corp.crt"}
    assert x509.load_pem_x509_certificate(put.read_bytes()) == authority.certificate
    assert put.stat().st_mode & 0o777 == 0o644
    for _ in range(2):  # What is not there any more is no error.
        carry_out(steps(Store.SYSTEM, authority.trusted_pem, uninstall=True, root=tmp_path))
    assert list(folder.iterdir()) == [folder / "corp.crt"]
    assert noted.read_text() == "called \ncalled --fresh\ncalled --fresh\n"


def test_a_tool_that_fails_is_an_error_with_its_last_word(tmp_path: Path) -> None:
    """Never a success that is none; one that may fail may."""
    run = Run(("sh", "-c", "echo first >&2; echo the reason >&2; exit 3"))
    with pytest.raises(StateError, match="status 3, the reason"):
        carry_out([run])
    carry_out([Run(run.command, needed=False)])
    with pytest.raises(StateError, match="No such file"):
        carry_out([Run((str(tmp_path / "missing"),))])


def test_a_folder_that_is_not_ours_to_write_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's store needs root."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(installing.files, "write_public", refuse)
    with pytest.raises(StateError, match="Permission denied") as caught:
        carry_out([Put(Path("/usr/local/share/x.crt"), b"")])
    assert "root" in caught.value.hint


def test_a_jvm_of_ours_works_on_its_own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JAVA_TOOL_OPTIONS of `egress env` names another store, and would be written to in place of `cacerts`."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dx=y")
    seen = tmp_path / "seen"
    carry_out([Run(("sh", "-c", f'echo "${{JAVA_TOOL_OPTIONS-none}}" > {seen}'))])
    assert seen.read_text() == "none\n"


def test_certificates_go_in_by_standard_input(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CA's folder is closed to whoever the tool runs as; each certificate has a name of its own."""
    tools(monkeypatch, "keytool", "certutil")
    authority.rotate(keep=timedelta(days=1))
    taken, put, *_ = steps(Store.JAVA, authority.trusted_pem, uninstall=False)
    assert isinstance(put, Run)
    assert isinstance(taken, Run)
    assert (put.stdin, put.needed, taken.needed) == (authority.certificate_pem, True, False)
    names = {step.command[-1] for step in steps(Store.NSS, authority.trusted_pem, uninstall=True) if type(step) is Run}
    assert len(names) == 2
