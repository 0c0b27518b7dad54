"""`admin` in the configuration and `--admin`: where it may be, and what each says when it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks

from egress.config import AdminConfig, ServerOverrides, UnixListener, load_server_config
from egress.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from documents import Block

HOME = {"HOME": "/home/dev"}
GUIDE = ROOT / "docs" / "guides" / "metrics.md"


def load(folder: Path, text: str, admin: str | None = None) -> AdminConfig | None:
    """What a file and the flag come to."""
    path = folder / "egress.yaml"
    path.write_text(text)
    return load_server_config(path, ServerOverrides(admin=admin), HOME).admin


ANYWHERE = "admin: {listen: 0.0.0.0:9180, anywhere: true, hosts: [Prom.example]}\n"
TAKEN: tuple[tuple[str, str | None, AdminConfig | None], ...] = (
    ("workers: 1\n", None, None),
    ("workers: 1\n", "127.0.0.1:0", AdminConfig(("127.0.0.1", 0))),
    ("admin: 127.0.0.1:9180\n", None, AdminConfig(("127.0.0.1", 9180))),
    ("admin: localhost:9180\n", None, AdminConfig(("127.0.0.1", 9180))),
    ('admin: "[::1]:9180"\n', None, AdminConfig(("::1", 9180))),
    ("admin: unix:/run/a.sock\n", None, AdminConfig(UnixListener("/run/a.sock"))),
    (ANYWHERE, None, AdminConfig(("0.0.0.0", 9180), anywhere=True, hosts=frozenset({"prom.example"}))),
    (ANYWHERE, "10.0.0.1:1", AdminConfig(("10.0.0.1", 1), anywhere=True, hosts=frozenset({"prom.example"}))),
)


@pytest.mark.parametrize(("text", "flag", "expected"), TAKEN)
def test_where_it_is(tmp_path: Path, text: str, flag: str | None, expected: AdminConfig | None) -> None:
    """The flag says where; `anywhere` and `hosts` are the file's alone."""
    assert load(tmp_path, text, flag) == expected


def test_a_path_is_taken_from_the_files_folder(tmp_path: Path) -> None:
    """As all paths are."""
    found = load(tmp_path, 'admin: {listen: {unix: run/a.sock, mode: "0660"}}\n')
    assert found == AdminConfig(UnixListener(str(tmp_path / "run" / "a.sock")))
    assert found is not None
    assert isinstance(found.listen, UnixListener)
    assert found.listen.mode == 0o660


REACHED = "is reached from other machines, and perhaps from sandboxes"
WRONG = (
    ("admin: 0.0.0.0:9180\n", None, f"1: admin: `0.0.0.0` {REACHED}"),
    ("admin: {listen: 10.0.0.1:9180, anywhere: false}\n", None, f"1: admin: `10.0.0.1` {REACHED}"),
    ('admin: "[::]:9180"\n', None, f"1: admin: `::` {REACHED}"),
    ("workers: 1\n", "192.168.1.1:80", f"--admin: `192.168.1.1` {REACHED}"),
    ("admin: 127.0.0.1:3128\n", None, "1: admin: this is where the proxy listens"),
    ("listen: unix:/run/p\nadmin: unix:/run/p\n", None, "2: admin: this is where the proxy listens"),
    ("admin: {}\n", None, "1: admin: `listen` is missing"),
    ("admin: {listen: 127.0.0.1:1, anywere: true}\n", None, "unknown key, did you mean `anywhere`?"),
    ("admin: metrics.example:80\n", None, "is a name; a listener needs an address"),
    ("admin: 9180\n", None, "should be a mapping, not a number"),
    ("metrics: 127.0.0.1:9180\n", None, "1: metrics: metrics are a part of `admin`, write `admin: 127.0.0.1:9180`"),
)


@pytest.mark.parametrize(("text", "flag", "told"), WRONG)
def test_where_it_must_not_be(tmp_path: Path, text: str, flag: str | None, told: str) -> None:
    """An address that a sandbox might reach is no default, and the message says what to write."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, flag)
    assert [told in str(problem) for problem in caught.value.problems] == [True], caught.value.problems


@pytest.mark.parametrize("block", blocks(GUIDE, "yaml"), ids=str)
def test_the_guides_examples_load(tmp_path: Path, block: Block) -> None:
    """What people copy works."""
    assert load(tmp_path, block.text) is not None
