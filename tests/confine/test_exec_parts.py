"""The parts of `egress exec` that decide before anything is made: environment, sockets, folders, filter, users."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from egress.config import ServerOverrides, load_server_config
from egress.confine.environment import VARIABLES
from egress.confine.exec_environment import confined_environment, scrubbed, secret_variables
from egress.confine.exec_filter import network_filter
from egress.confine.exec_folder import make_run_folder
from egress.confine.exec_mounts import pinned
from egress.confine.exec_plan import ConfineError, User
from egress.confine.exec_readable import check_unwritable, exchangeable, replaceable, shadowed
from egress.confine.exec_sockets import foreign_sockets
from egress.confine.exec_user import user_for

OTHER = User(4_321, 4_321, "other", "/nonexistent", change=True)
ALLOW, FAMILY, MISSING = 0x7FFF0000, 0x00050000 | 97, 0x00050000 | 38


def verdict(program: bytes, audit: int, number: int, argument: int = 0) -> int:
    """What the filter says of a system call: the program, interpreted."""
    data = struct.pack("IIQ6Q", number, audit, 0, argument, 0, 0, 0, 0, 0)
    steps = list(struct.iter_unpack("HBBI", program))
    at, value = 0, 0
    while True:
        code, then, otherwise, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("I", data, operand)
            case 0x15:
                at += then if value == operand else otherwise
            case 0x35:
                at += then if value >= operand else otherwise
            case 0x06:
                return operand


@pytest.mark.parametrize(
    ("machine", "audit", "opening", "missing"),
    [("x86_64", 0xC000003E, 41, (425, 248, 249, 250)), ("aarch64", 0xC00000B7, 198, (425, 217, 218, 219))],
)
def test_the_filter_lets_network_families_alone_through(
    machine: str, audit: int, opening: int, missing: tuple[int, ...]
) -> None:
    """By family; every other call passes, but for those that go around it and those of another kind of machine."""
    program = network_filter(machine)
    assert program is not None
    passed = {family for family in range(64) if verdict(program, audit, opening, family) == ALLOW}
    assert passed == {1, 2, 10, 16}
    assert verdict(program, audit, opening, 40) == FAMILY
    assert verdict(program, audit, 1) == ALLOW
    assert {verdict(program, audit, number) for number in missing} == {MISSING}
    assert verdict(program, audit, 0x40000000 | 41, 2) == MISSING
    assert verdict(program, 0x40000003, 41, 2) == MISSING


def test_an_unknown_machine_has_no_filter() -> None:
    """So that nothing is confined there by half."""
    assert network_filter("vax") is None


@pytest.mark.parametrize(
    ("name", "value", "stays"),
    [
        ("PATH", "/bin", True),
        ("TOKEN", "canary", False),
        ("SSH_AUTH_SOCK", "/run/agent", False),
        ("SSH_AUTH_SOCK", "/home/allowed", True),
        ("DOCKER_HOST", "unix:///home/allowed", True),
        ("DOCKER_HOST", "unix:///run/docker.sock", False),
        ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/bus", False),
        ("EGRESS_SECRETS_KEY", "canary", False),
        ("SUDO_USER", "somebody", False),
        ("TMUX", "/run/tmux/default,1,0", False),
    ],
)
def test_what_leads_to_secrets_and_sockets_leaves_the_environment(name: str, value: str, *, stays: bool) -> None:
    """By name; one that names an allowed socket stays."""
    assert (name in scrubbed({name: value}, {"TOKEN"}, [Path("/home/allowed")])) is stays


@pytest.mark.parametrize(("source", "found"), [("env: PROXY_PASSWORD", {"PROXY_PASSWORD"}), ("file: pw", set())])
def test_the_password_of_the_way_out_is_a_secret(tmp_path: Path, source: str, found: set[str]) -> None:
    """Its variable leaves the environment of the command, as those of other secrets do."""
    file = tmp_path / "egress.yaml"
    proxy = f"{{url: 'http://proxy.corp.example:8080', user: egress, password: {{{source}}}}}"
    file.write_text(f"upstream: {{proxy: {proxy}}}\n")
    config = load_server_config(file, ServerOverrides(state_dir=tmp_path), {})
    env = {"PROXY_PASSWORD": "canary", "PATH": "/bin", "HOME": "/root"}
    assert secret_variables(config, {}, env) == found


def test_the_command_gets_every_variable_of_egress_env() -> None:
    """Java, apt, wget and PHP too: what works with one works with the other."""
    assert set(VARIABLES) <= confined_environment({}, OTHER, {}).keys()


def test_the_environment_of_another_user_is_its_own() -> None:
    """Its home and name; nothing that names our folders; and ours gives way to the proxy's."""
    env = {
        "HOME": "/root",
        "XDG_CONFIG_HOME": "/root/.config",
        "https_proxy": "http://elsewhere",
        "TMPDIR": "/var/folders/x",
    }
    found = confined_environment(env, OTHER, {"KEY": "placeholder"})
    assert (found["HOME"], found["USER"], found["LOGNAME"]) == ("/tmp", "other", "other")  # noqa: S108 - the command's own
    assert not {"XDG_CONFIG_HOME", "TMPDIR"} & found.keys()
    assert (found["https_proxy"], found["KEY"]) == ("http://127.0.0.1:3128", "placeholder")
    assert found["SSL_CERT_FILE"] == "/run/egress/ca-bundle.pem"


def test_sockets_that_show_are_hidden(tmp_path: Path) -> None:
    """Those of the table that are sockets, and known folders; not what is allowed, nor what is covered anyway."""
    home = tmp_path / "home"
    (home / ".docker" / "run").mkdir(parents=True)
    for name in ("one.sock", "with space.sock", "allowed.sock"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(home / name))
    (home / "file").touch()
    line = "0000000000000000: 00000002 00000000 00010000 0001 01 12345"
    names = ["one.sock", "with space.sock", "allowed.sock", "file", "gone"]
    table = "Num RefCount Protocol Flags Type St Inode Path\n" + "".join(f"{line} {home / name}\n" for name in names)
    table += f"{line} @/tmp/.X11-unix/X0\n{line}\n{line} relative\n"
    found = foreign_sockets(home, [home], [home / "allowed.sock"], table)
    assert set(found) == {home / "one.sock", home / "with space.sock", home / ".docker" / "run"}
    assert foreign_sockets(home, [], [], table) == []


def test_a_socket_that_was_renamed_is_hidden(tmp_path: Path) -> None:
    """The table has the name that it was made with; it is found in that folder."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "shared.b0rn"))
        (tmp_path / "shared.b0rn").rename(tmp_path / "shared")
    (tmp_path / "file").touch()
    line = "0000000000000000: 00000002 00000000 00010000 0001 01 12345"
    found = foreign_sockets(tmp_path / "home", [tmp_path], [], f"{line} {tmp_path}/shared.b0rn\n")
    assert found == [tmp_path / "shared"]


def test_without_a_table_of_sockets_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ones to hide would not be known."""
    monkeypatch.setattr("egress.confine.exec_sockets._TABLE", tmp_path / "gone")
    with pytest.raises(ConfineError, match="cannot be read"):
        foreign_sockets(tmp_path, [], [])


def test_a_group_that_is_kept_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stays the same user writes by each of its groups; another user has its own alone."""
    policy = tmp_path / "policy"
    policy.touch()
    policy.chmod(0o660)
    monkeypatch.setattr("os.getgroups", lambda: [policy.stat().st_gid])
    assert exchangeable(policy, replace(OTHER, change=False))
    assert not exchangeable(policy, OTHER)


PROGRAMS = (
    # named, what is there, whether another could be put in its place
    ("tool", {"closed/tool": 0o755}, False),
    # Its folder is closed while the command runs.
    ("tool", {"open/tool": 0o755}, False),
    ("tool", {"open/tool": 0o755, "first/tool": 0o646}, True),
    ("tool", {}, True),
    ("tool", {"closed/tool": 0o755, "first/tool": 0o644}, False),
    ("{}/closed/tool", {"closed/tool": 0o755}, False),
    ("{}/closed/tool", {}, False),
    ("{}/closed/tool", {"closed/tool": 0o646}, True),
    ("{}/open/tool", {}, True),
    ("{}/open/new/tool", {}, True),
)


@pytest.mark.parametrize(("named", "there", "refused"), PROGRAMS)
def test_no_program_can_be_put_where_one_is_looked_for(
    named: str, there: dict[str, int], *, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it in the PATH; anywhere on it or at its place, where it is missing or cannot be run yet."""
    for name, mode in (("first", 0o755), ("closed", 0o755), ("open", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    for name, mode in there.items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("first", "closed", "open")))
    assert bool(shadowed([named.format(tmp_path)], OTHER)) is refused


def test_every_folder_on_the_way_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outermost first, each once, and not the root; also one that looks like a mount, as a subvolume does."""
    monkeypatch.setattr(Path, "is_mount", lambda path: path == Path("/nothing/a"))
    paths = [Path("/nothing/a/b/state"), Path("/nothing/a/policy")]
    assert pinned(paths) == [Path("/nothing"), Path("/nothing/a"), Path("/nothing/a/b")]


def test_a_file_that_could_be_replaced_is_found(tmp_path: Path) -> None:
    """A hard link and a link in a folder of the user's; neither where the user can write nothing."""
    policy = tmp_path / "policy"
    policy.touch(mode=0o600)
    ours = User(os.getuid(), os.getgid(), "ours", "/", change=False)
    assert replaceable([policy], ours) == ()
    link, second = tmp_path / "link", tmp_path / "second"
    link.symlink_to(policy)
    second.hardlink_to(policy)
    assert [problem.message.split(" (")[0] for problem in replaceable([link], ours)] == [
        f"the command could turn the link `{link}` to another file",
        "this file has another name",
    ]
    assert replaceable([policy], OTHER) == ()


def test_a_file_that_can_be_written_ends_the_start(tmp_path: Path) -> None:
    """Tried, and left as it was."""
    policy = tmp_path / "policy"
    policy.write_text("text")
    with pytest.raises(ConfineError, match="could write"):
        check_unwritable([policy])
    assert policy.read_text() == "text"
    check_unwritable([tmp_path / "gone"])


def test_a_folder_of_a_dead_start_is_taken_away(tmp_path: Path) -> None:
    """That of a living one stays, and so does one whose lock is held."""
    first = make_run_folder(tmp_path)
    dead = tmp_path / "exec" / f"{2**22 + 1}-dead"
    dead.mkdir()
    second = make_run_folder(tmp_path)
    assert set((tmp_path / "exec").iterdir()) == {first, second}


@pytest.mark.parametrize(
    ("wanted", "env", "name"),
    [(None, {}, "nobody"), ("nobody", {"SUDO_UID": "1"}, "nobody"), (None, {"SUDO_UID": "65534"}, "nobody")],
)
def test_root_runs_it_as_somebody_else(wanted: str | None, env: dict[str, str], name: str) -> None:
    """Who is named, else who called sudo, else nobody."""
    found = user_for(wanted, env, privileged=True)
    assert (found.name, found.change) == (name, True)


@pytest.mark.parametrize("wanted", ["root", "0", "no-such-user", "99999999999999999999"])
def test_root_and_unknown_users_are_refused(wanted: str) -> None:
    """By name or number."""
    with pytest.raises(ConfineError):
        user_for(wanted, {}, privileged=True)
