"""Unix sockets and users in the server's configuration: what is read, what is refused and how, and with which mode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from egress.config import ServerConfig, ServerOverrides, UnixListener, load_server_config, socket_mode, told_listener
from egress.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

HASH = "sha256:" + "0" * 64


def load(folder: Path, text: str, **flags: str) -> ServerConfig:
    """The configuration of this text."""
    path = folder / "egress.yaml"
    path.write_text(text)
    return load_server_config(path, ServerOverrides(**flags), {})  # type: ignore[arg-type]


def problems(folder: Path, text: str, **flags: str) -> str:
    """What is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **flags)
    return "\n".join(str(problem) for problem in caught.value.problems)


READ = [
    ("unix:/run/egress/proxy.sock", "/run/egress/proxy.sock", None),
    ("unix:///run/egress/proxy.sock", "/run/egress/proxy.sock", None),
    ("unix:proxy.sock", "FOLDER/proxy.sock", None),
    ("unix:./a/../proxy.sock", "FOLDER/proxy.sock", None),
    ('"unix:a b.sock"', "FOLDER/a b.sock", None),
    ("{unix: /run/p.sock}", "/run/p.sock", None),
    ('{unix: p.sock, mode: "0660"}', "FOLDER/p.sock", 0o660),
    ('{unix: p.sock, mode: "600"}', "FOLDER/p.sock", 0o600),
    ('[{unix: p.sock, mode: "0666"}]', "FOLDER/p.sock", 0o666),
]


@pytest.mark.parametrize(("text", "path", "mode"), READ, ids=[row[0] for row in READ])
def test_a_unix_socket_is_read(tmp_path: Path, text: str, path: str, mode: int | None) -> None:
    """Its path from the configuration's folder."""
    listener = load(tmp_path, f"listen: {text}\n").listen
    assert isinstance(listener, UnixListener)
    assert (listener.path, listener.mode) == (path.replace("FOLDER", str(tmp_path)), mode)


def test_sockets_and_addresses_stand_side_by_side(tmp_path: Path) -> None:
    """In their order; as people write them."""
    config = load(tmp_path, 'listen: [127.0.0.1:3128, "unix:p.sock", "[::1]:0", "[::1]:0"]\n')
    told = [told_listener(address) for address in config.listens]
    assert told == ["127.0.0.1:3128", f"unix:{tmp_path}/p.sock", "[::1]:0", "[::1]:0"]


def test_the_flag_names_a_socket_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from the file's, and in place of all that the file lists."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = load(tmp_path, "listen: [127.0.0.1:1, unix:q.sock]\n", listen="unix:p.sock")
    assert config.listens == (UnixListener(f"{elsewhere}/p.sock"),)
    assert load_server_config(None, ServerOverrides(listen="unix:/p"), {}).listens == (UnixListener("/p"),)


LIKE = "write `unix:/run/egress/proxy.sock`"
WRONG = [
    ("listen: 'unix:'", f"listen: empty text is not a path for a unix socket, {LIKE}"),
    ("listen: unix:/run/", f"listen: `/run/` is not a path for a unix socket, {LIKE}"),
    ('listen: "unix:/a\\nb"', "is not a path for a unix socket"),
    (
        "listen: unix:@egress",
        f"`@egress` names an abstract socket, which everybody on this machine can take or reach, {LIKE}",
    ),
    ("listen: unix://run/p.sock", f"listen: `//run/p.sock` names a host, and a unix socket is on none, {LIKE}"),
    ("listen: [unix:p, unix:./p]", "listen[1]: this address stands here twice, remove one of them"),
    ('listen: [unix:p, {unix: p, mode: "0660"}]', "listen[1]: this address stands here twice"),
    ("listen: {path: p}", "listen: unknown key `path`, write `mode` or `unix`"),
    (
        'listen: {mode: "0600"}',
        'listen: a mapping here is a unix socket, and needs its path, write `{unix: PATH, mode: "0660"}`',
    ),
    ("listen: {unix: 7}", "listen: should be text, not a number"),
    (
        "listen: {unix: p, mode: 0660}",
        'mode: should be the permissions to connect, in quotes, not a number, write `"0600"`, `"0660"`',
    ),
    ('listen: {unix: p, mode: "0777"}', "mode: should be the permissions to connect, in quotes, not `0777`"),
    ('listen: {unix: p, mode: "0066"}', "mode: should be the permissions to connect, in quotes, not `0066`"),
    ('listen: {unix: p, mode: "rw"}', "mode: should be the permissions to connect, in quotes, not `rw`"),
    ('listen: {unix: p, mode: "1666"}', "not `1666`"),
    (
        "listen: unix:p\nsandboxes: {a: {listener: {unix: p}}}",
        "sandboxes.a.listener: should be an address of `listen`, not a mapping",
    ),
    ("listen: unix:p\nsandboxes: {a: {listener: 'unix:q'}}", "sandboxes.a.listener: the proxy does not listen there"),
    (
        "sandboxes: {a: {uid: 7}}",
        "sandboxes.a.uid: the proxy listens on no unix socket, so nobody would be this sandbox",
    ),
    (
        "listen: [unix:p, 127.0.0.1:1]\nsandboxes: {a: {uid: 7, listener: 127.0.0.1:1}}",
        "sandboxes.a.uid: its listener is no unix socket, so nobody would be this sandbox, write `listener: unix:PATH`",
    ),
    (
        "listen: unix:p\nsandboxes: {a: {uid: 7, source: 10.0.0.1}}",
        "sandboxes.a.source: a client of a unix socket has no address",
    ),
    (
        "listen: unix:p\nsandboxes: {a: {listener: 'unix:p', source: 10.0.0.1}}",
        "sandboxes.a.source: a client of a unix socket has no",
    ),
    (
        "listen: unix:p\nsandboxes: {a: {uid: build}}",
        "uid: should be a user's number, not `build`, write a number, as `id -u NAME`",
    ),
    ("listen: unix:p\nsandboxes: {a: {uid: '7'}}", "uid: should be a user's number, not `7`"),
    ("listen: unix:p\nsandboxes: {a: {uid: true}}", "uid: should be a user's number, not true/false"),
    ("listen: unix:p\nsandboxes: {a: {uid: 1.5}}", "uid: should be a user's number, not a number"),
    ("listen: unix:p\nsandboxes: {a: {uid: -1}}", "uid: `-1` is no user's number"),
    ("listen: unix:p\nsandboxes: {a: {uid: 4294967295}}", "uid: `4294967295` is no user's number"),
    (
        "listen: unix:p\nsandboxes: {a: {uid: [7, 65534]}}",
        "uid: 65534 is what the kernel calls every user that it cannot name here",
    ),
    ("listen: unix:p\nsandboxes: {a: {uid: []}}", "uid: this list is empty, so nobody would be this sandbox"),
    (
        "listen: unix:p\nsandboxes: {a: {uid: [7, 8]}, b: {uid: 8}}",
        "sandboxes.b: the user 8 is that of the sandbox `a` too, so it is open whose a client is, give one",
    ),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[f"{number} {row[0][-40:]}" for number, row in enumerate(WRONG)])
def test_what_cannot_be_listened_on_or_told_apart_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """With its line, and what to write."""
    found = problems(tmp_path, text + "\n")
    assert told in found
    assert "egress.yaml:" in found


def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    """As a whole, by its bytes: 107 of them, since clients want a zero at the end."""
    room = 107 - len(os.fsencode(tmp_path)) - 1
    load(tmp_path, f"listen: unix:{'x' * room}\n")
    long = problems(tmp_path, f"listen: [127.0.0.1:1, unix:{'x' * (room + 1)}]\n")
    assert "egress.yaml:1: listen[1]: the path has 108 bytes, and that of a socket has 107 at most, put it into" in long
    assert "the path has 108 bytes" in problems(tmp_path, f"listen: unix:{'ü' * (room // 2)}{'x' * (room % 2 + 1)}\n")
    assert problems(tmp_path, "workers: 1\n", listen=f"unix:/{'x' * 107}").startswith(
        "--listen: the path has 108 bytes"
    )


def test_a_flag_that_is_no_socket_is_told_as_the_flags(tmp_path: Path) -> None:
    """By its name."""
    assert problems(tmp_path, "workers: 1\n", listen="unix:@x").startswith("--listen: `@x` names an abstract socket")


def test_users_and_sockets_of_sandboxes_are_read(tmp_path: Path) -> None:
    """One or several; a socket under the path that `listen` has, however it is written."""
    text = f"""
listen: [unix:p.sock, unix:q.sock]
sandboxes:
  a: {{uid: 1001}}
  b: {{uid: [1002, 1003, 1002], labels: {{team: data}}}}
  c: {{listener: "unix:{tmp_path}/q.sock", uid: 1001}}
  d: {{uid: 1001, token: {HASH}}}
"""
    config = load(tmp_path, text)
    assert [own.uids for own in config.sandboxes] == [(1001,), (1002, 1003), (1001,), (1001,)]
    assert [own.listener for own in config.sandboxes] == [None, None, UnixListener(f"{tmp_path}/q.sock"), None]


MODES = [
    ("no sandboxes", "listen: unix:p", 0o600),
    ("a stated one", 'listen: {unix: p, mode: "0660"}\nsandboxes: {a: {uid: 7}}', 0o660),
    ("by user", "listen: unix:p\nsandboxes: {a: {uid: 7}}", 0o666),
    ("by user at this socket", "listen: unix:p\nsandboxes: {a: {uid: 7, listener: 'unix:p'}}", 0o666),
    ("by user at another socket", "listen: [unix:p, unix:q]\nsandboxes: {a: {uid: 7, listener: 'unix:q'}}", 0o600),
    ("by the socket alone", "listen: unix:p\nsandboxes: {a: {listener: 'unix:p'}}", 0o600),
    ("by user and by the socket alone", "listen: unix:p\nsandboxes: {a: {uid: 7}, b: {listener: 'unix:p'}}", 0o600),
    (
        "by user, and socket with token",
        f"listen: unix:p\nsandboxes: {{a: {{uid: 7}}, b: {{listener: 'unix:p', token: {HASH}}}}}",
        0o666,
    ),
    ("by token", f"listen: unix:p\nsandboxes: {{a: {{token: {HASH}}}}}", 0o600),
    ("by source", "listen: [unix:p, 127.0.0.1:1]\nsandboxes: {a: {source: 10.0.0.1}}", 0o600),
]


@pytest.mark.parametrize(("text", "mode"), [row[1:] for row in MODES], ids=[row[0] for row in MODES])
def test_everybody_may_connect_only_where_users_are_told_apart(tmp_path: Path, text: str, mode: int) -> None:
    """And where nobody becomes a sandbox by connecting alone; or where it is stated."""
    config = load(tmp_path, text + "\n")
    listener = config.listen
    assert isinstance(listener, UnixListener)
    assert socket_mode(listener, config.sandboxes) == mode
