"""`egress doctor`: each finding occurs when there is a reason for it, in time, and has its place in the guide."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, anchors
from typer.testing import CliRunner

from egress.cli.main import app
from egress.config import ServerOverrides, load_server_config
from egress.confine.doctor import Check, Finding, State, examine, ok, problem
from egress.confine.doctor_clients import Clients
from egress.confine.doctor_host import Host
from egress.confine.doctor_inside import Inside
from egress.confine.doctor_kernel import checks as kernel_checks
from egress.confine.doctor_roads import Reached, by_dns, by_quic, by_tcp
from egress.confine.doctor_sandbox import (
    container_socket,
    privileges,
    read_probe,
    resolver,
    road,
    state_folder,
    under_exec,
)
from egress.confine.environment import child_environment
from egress.gate.denial import Denial
from egress.gate.ids import moment_of, new_decision_id
from egress.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from egress.confine.doctor_roads import Address

GUIDE = ROOT / "docs" / "guides" / "doctor.md"
NOWHERE = ("127.0.0.1", 1)


@contextmanager
def answering(answer: bytes, *, kind: socket.SocketKind = socket.SOCK_STREAM, kept: int = 2) -> Iterator[Address]:
    """Somebody on loopback who answers everything with this; to a datagram, with its first bytes before it."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            sock.listen()
        over = threading.Event()
        sock.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                try:
                    if kind is socket.SOCK_DGRAM:
                        data, sender = sock.recvfrom(4096)
                        sock.sendto(data[:kept] + answer, sender)
                        continue
                    with sock.accept()[0] as taken:
                        taken.settimeout(5)
                        taken.recv(4096)
                        taken.sendall(answer)
                except OSError:
                    continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield sock.getsockname()
        finally:
            over.set()
            thread.join(10)


def page(reason: Reason, **more: int) -> bytes:
    """What the proxy answers to a request for a name that cannot exist."""
    return Denial(new_decision_id(**more), reason).http1()


# the examination


def test_all_are_looked_at_at_once_and_none_holds_up_another() -> None:
    """One hangs, one fails; both are problems that are told, in the order of the checks."""
    over = threading.Event()

    def hangs() -> Finding:
        over.wait(20)
        return ok("at last")

    def fails() -> Finding:
        raise ZeroDivisionError("a defect")

    began = time.monotonic()
    results = examine([Check("hangs", hangs), Check("fails", fails), Check("fine", lambda: ok("fine"))], seconds=0.5)
    over.set()
    assert time.monotonic() - began < 5
    assert [(one.id, one.finding.state) for one in results] == [
        ("hangs", State.PROBLEM),
        ("fails", State.PROBLEM),
        ("fine", State.OK),
    ]
    assert "ZeroDivisionError: a defect" in results[1].finding.told


def ids(tmp_path: Path) -> set[str]:
    """Every check that there is."""
    config = load_server_config(None, ServerOverrides(state_dir=tmp_path), {})
    checks = [*Host(config).checks(), *kernel_checks(gateway=False), *Clients(tmp_path, tmp_path, {}).checks()]
    return {check.id for check in [*checks, *Inside({}).checks()]}


def test_every_check_has_its_heading_in_the_guide_and_every_heading_its_check(tmp_path: Path) -> None:
    """What a finding names, its reader can look up."""
    text = GUIDE.read_text().partition("## Checks")[2]
    listed = {line.removeprefix("### ").strip("`") for line in text.splitlines() if line.startswith("### ")}
    assert listed == ids(tmp_path)
    assert ids(tmp_path) <= anchors(GUIDE)


# from inside a sandbox: its clients

HTTP = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
URL = "http://10.0.0.1:3128"
VARIABLES: tuple[tuple[Mapping[str, str], State, str], ...] = (
    ({}, State.PROBLEM, "no variable names a proxy"),
    (dict.fromkeys(HTTP, ""), State.PROBLEM, "no variable names a proxy"),
    ({**dict.fromkeys(HTTP, URL), "ALL_PROXY": "http://10.0.0.2:3128"}, State.PROBLEM, "several proxies"),
    ({"HTTPS_PROXY": URL}, State.WARNING, "HTTP_PROXY, http_proxy, https_proxy: not set"),
    (dict.fromkeys(HTTP, URL), State.OK, "10.0.0.1:3128"),
    (dict.fromkeys(HTTP, "http://me:hidden@10.0.0.1:3128"), State.OK, "10.0.0.1:3128"),
)


@pytest.mark.parametrize(("env", "state", "told"), VARIABLES)
def test_proxy_variables(env: Mapping[str, str], state: State, told: str) -> None:
    """Missing, several, some; a token in one is never told."""
    found = Inside(env).proxy_variables()
    assert (found.state, told in found.told, "hidden" in found.told) == (state, True, False)
    assert found.fix or state is State.OK


@pytest.mark.parametrize(
    ("value", "state"),
    [("", State.OK), (" , ", State.OK), ("a.test,b.test", State.WARNING), ("a.test,*", State.PROBLEM)],
)
def test_no_proxy(value: str, state: State) -> None:
    """Hosts that are excepted are told; all of them is a problem."""
    found = Inside({"no_proxy": value}).no_proxy()
    assert found.state is state
    assert state is not State.WARNING or "a.test, b.test" in found.told


ANSWERS = (
    (page(Reason.HOST_NOT_ALLOWED), State.OK, "knows this client"),
    (page(Reason.SANDBOX_UNKNOWN), State.PROBLEM, "does not know this client"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", State.PROBLEM, "is no egress proxy"),
    (b"SSH-2.0-OpenSSH\r\n", State.PROBLEM, "does not answer"),
)


@pytest.mark.parametrize(("answer", "state", "told"), ANSWERS)
def test_proxy_answers(answer: bytes, state: State, told: str) -> None:
    """This proxy, one that does not know us, another one, none."""
    with answering(answer) as (host, port):
        found = Inside({"HTTPS_PROXY": f"{host}:{port}"}).proxy_answers()
    assert (found.state, told in found.told) == (state, True), found.told


def test_a_proxy_that_is_not_there_is_a_problem_and_none_that_is_named_is_not_asked() -> None:
    """With what to do."""
    found = Inside({"HTTP_PROXY": "http://127.0.0.1:1"}).proxy_answers()
    assert (found.state, "egress status" in found.fix) == (State.PROBLEM, True)
    assert Inside({}).proxy_answers().state is Inside({}).clock_skew().state is State.SKIPPED


@pytest.mark.parametrize(
    ("behind", "state", "told"),
    [(0, State.OK, ""), (3600, State.PROBLEM, "3600 s ahead"), (-3600, State.PROBLEM, "3600 s behind")],
)
def test_clock(behind: int, state: State, told: str) -> None:
    """By the time that is in the proxy's decision id."""
    now = 1_800_000_000
    with answering(page(Reason.HOST_NOT_ALLOWED, time_ms=(now - behind) * 1000)) as (host, port):
        found = Inside({"HTTP_PROXY": f"http://{host}:{port}"}, clock=lambda: now).clock_skew()
    assert (found.state, told in found.told) == (state, True)


def test_the_moment_of_an_id_is_read_or_nothing_is() -> None:
    """An id that is none tells no time."""
    assert moment_of(new_decision_id(time_ms=1_800_000_000_123)) == 1_800_000_000.123
    assert [moment_of(text) for text in ("", "x" * 25, "u" * 26, "A" * 26)] == [None] * 4


def test_ca_files(tmp_path: Path) -> None:
    """None named, some missing, one that is not there, one without a certificate, and all as they should be."""
    bundle, empty = tmp_path / "bundle.pem", tmp_path / "empty.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    empty.write_text("")
    cases = (
        ({}, State.WARNING, "no variable"),
        ({"SSL_CERT_FILE": str(bundle)}, State.WARNING, "NODE_EXTRA_CA_CERTS"),
        ({"SSL_CERT_FILE": str(tmp_path / "gone")}, State.PROBLEM, "no such file"),
        ({"SSL_CERT_FILE": str(empty)}, State.PROBLEM, "holds no certificate"),
        (child_environment(URL, bundle, bundle), State.OK, "can be read"),
    )
    found = [(Inside(env).ca_files(), state, told) for env, state, told in cases]
    assert [(one.state, told in one.told) for one, _, told in found] == [(state, True) for _, state, _ in found]


# from inside a sandbox: roads and powers

TAKEN = page(Reason.HOST_NOT_ALLOWED)
NAME_SERVER = b"\x81\x80\0\1\0\1\0\0\0\0"
REFUSING = b"\x81\x85\0\1\0\0\0\0\0\0"
ROADS: tuple[tuple[Callable[..., Reached], socket.SocketKind, bytes, Reached], ...] = (
    (by_tcp, socket.SOCK_STREAM, b"HTTP/1.1 400 Bad Request\r\n\r\n", Reached.OUTSIDE),
    (by_tcp, socket.SOCK_STREAM, b"", Reached.OUTSIDE),
    (by_tcp, socket.SOCK_STREAM, b"HTTP/1.1 200 OK\r\n\r\nX-Egress-Decision: deny\r\n", Reached.OUTSIDE),
    (by_tcp, socket.SOCK_STREAM, TAKEN, Reached.HELD),
    (by_dns, socket.SOCK_DGRAM, NAME_SERVER, Reached.OUTSIDE),
    (by_dns, socket.SOCK_DGRAM, REFUSING, Reached.HELD),
    (by_dns, socket.SOCK_DGRAM, b"", Reached.NO),
    (by_quic, socket.SOCK_DGRAM, bytes(24), Reached.OUTSIDE),
    (by_quic, socket.SOCK_DGRAM, b"noise", Reached.NO),
)


@pytest.mark.parametrize(("reach", "kind", "answer", "reached"), ROADS)
def test_an_answer_from_outside_is_told_from_one_that_is_held_back(
    reach: Callable[..., Reached], kind: socket.SocketKind, answer: bytes, reached: Reached
) -> None:
    """A gateway takes every connection: what counts is who answers."""
    with answering(answer, kind=kind, kept=1 if reach is by_quic else 2) as address:
        assert reach(address, 0.5) is reached


@pytest.mark.parametrize("reach", [by_tcp, by_dns, by_quic])
def test_where_nobody_answers_there_is_no_road(reach: Callable[..., Reached]) -> None:
    """At once where the address says so."""
    assert reach(NOWHERE, 0.5) is Reached.NO


@pytest.mark.parametrize(
    ("reached", "state"), [(Reached.OUTSIDE, State.PROBLEM), (Reached.HELD, State.OK), (Reached.NO, State.OK)]
)
def test_one_address_that_answers_is_a_road(reached: Reached, state: State) -> None:
    """Whatever the others do; where there is none to try, nothing is claimed."""
    found = road(
        lambda address: reached if address == NOWHERE else Reached.NO, "TCP to {}", (("192.0.2.1", 1), NOWHERE)
    )
    assert found.state is state
    assert "127.0.0.1:1" in found.told
    assert road(by_tcp, "TCP to {}", ()).state is State.SKIPPED


def test_a_name_server_that_tells_of_the_internet_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of /etc/resolv.conf."""
    assert resolver(tmp_path).state is State.OK
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "resolv.conf").write_text("# nameserver 192.0.2.1\nnameserver 127.0.0.1\n")
    with answering(NAME_SERVER, kind=socket.SOCK_DGRAM) as (_, port):
        monkeypatch.setattr("egress.confine.doctor_sandbox.DNS", port)
        assert resolver(tmp_path).state is State.PROBLEM
    with answering(REFUSING, kind=socket.SOCK_DGRAM) as (_, port):
        monkeypatch.setattr("egress.confine.doctor_sandbox.DNS", port)
        assert resolver(tmp_path).state is State.OK


def test_a_container_socket_that_can_be_used_is_a_problem(tmp_path: Path) -> None:
    """A file of that name alone is none, nor is a socket that nobody serves."""
    path = tmp_path / "var" / "run" / "docker.sock"
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert container_socket(tmp_path).state is State.OK
    path.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        assert container_socket(tmp_path).state is State.OK
        sock.listen()
        found = container_socket(tmp_path)
    assert (found.state, "/var/run/docker.sock" in found.told) == (State.PROBLEM, True)


@pytest.mark.parametrize(
    ("line", "state", "told"),
    [
        ("CapEff:\t0000000000000000\n", State.OK, ""),
        ("CapEff:\t00000000a80425fb\n", State.OK, ""),
        ("CapEff:\t0000000000001000\n", State.PROBLEM, "CAP_NET_ADMIN"),
        ("CapEff:\t000001ffffffffff\n", State.PROBLEM, "CAP_SYS_ADMIN"),
        ("", State.SKIPPED, ""),
    ],
)
def test_privileges(tmp_path: Path, line: str, state: State, told: str) -> None:
    """What a container has by default cannot change the network; NET_ADMIN can."""
    path = tmp_path / "proc" / "self" / "status"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    found = privileges(tmp_path)
    assert (found.state, told in found.told) == (state, True)


LOOPBACK = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n"
CONFINED = "NoNewPrivs:\t1\nSeccomp:\t2\n"


@pytest.mark.parametrize(
    ("init", "status", "devices", "state", "told"),
    [
        ("egress init", CONFINED, LOOPBACK, State.OK, "runs under `egress exec`"),
        ("systemd", CONFINED, LOOPBACK, State.SKIPPED, ""),
        ("egress init", CONFINED, f"{LOOPBACK}  eth0: 1 2\n", State.PROBLEM, "eth0"),
        ("egress init", "NoNewPrivs:\t0\nSeccomp:\t2\n", LOOPBACK, State.PROBLEM, "privileges"),
        ("egress init", "NoNewPrivs:\t1\nSeccomp:\t0\n", LOOPBACK, State.PROBLEM, "not filtered"),
        ("egress init", "", LOOPBACK, State.PROBLEM, "not filtered"),
    ],
)
def test_the_inside_of_exec_is_known(
    tmp_path: Path, init: str, status: str, devices: str, *, state: State, told: str
) -> None:
    """By its process number 1; and what it promises is looked at."""
    for name, text in {"1/comm": f"{init}\n", "self/status": status, "self/net/dev": devices}.items():
        path = tmp_path / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = under_exec(tmp_path)
    assert (found.state, told in found.told) == (state, True)


@pytest.mark.parametrize("folder", ["var/lib/egress", "srv/state"])
def test_the_proxys_files_within_reach_are_a_problem(tmp_path: Path, folder: str) -> None:
    """In the usual folder, or in the one that the environment gives away."""
    assert state_folder(tmp_path, "/srv/state").state is State.OK
    key = tmp_path / folder / "ca" / "ca-key.pem"
    key.parent.mkdir(parents=True)
    key.write_text("key")
    found = state_folder(tmp_path, "/srv/state")
    assert (found.state, "ca-key.pem" in found.told) == (State.PROBLEM, True)


def test_offline_nothing_is_sent() -> None:
    """Each road says so."""
    looks = {check.id: check.look for check in Inside({}, offline=True).checks()}
    sending = ("road-tcp", "road-udp", "road-ipv6", "road-dns", "metadata-address", "resolver")
    assert [looks[name]().state for name in sending] == [State.SKIPPED] * 6


@pytest.mark.parametrize(
    "text", ["", "1.1.1.1", "example.com:443", "1.1.1.1:0", "1.1.1.1:65536", "1.1.1.1:x", "[::1:1"]
)
def test_a_probe_is_an_address_and_a_port(text: str) -> None:
    """A name would be resolved first, which is another road."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - its message is what was written
        read_probe(text)
    assert raised.value.args == (text,)


def test_probes_are_read() -> None:
    """Both families."""
    assert (read_probe("192.0.2.1:443"), read_probe("[2001:db8::1]:1")) == (("192.0.2.1", 443), ("2001:db8::1", 1))


# the command


def run(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status and output."""
    clean = dict.fromkeys((*HTTP, "ALL_PROXY", "all_proxy", "npm_config_proxy", "npm_config_https_proxy"), "")
    result = CliRunner().invoke(app, ["doctor", *arguments], env={**clean, **(env or {})})
    return result.exit_code, result.output


def test_the_command_tells_by_glyph_word_and_exit_status() -> None:
    """Nothing by colour alone; the fix stands below its finding."""
    code, told = run("--inside", "--offline")
    assert code == 1
    assert "✗  problem   proxy-variables" in told
    assert "→ eval" in told
    assert "-  skipped   road-tcp" in told


def test_as_json_it_says_the_same() -> None:
    """For programs: id, state, finding and fix of each."""
    code, told = run("--inside", "--offline", "--json")
    found = json.loads(told)
    assert (code, found["ok"]) == (1, False)
    states = {one["id"]: one["state"] for one in found["checks"]}
    assert (states["proxy-variables"], states["road-tcp"]) == ("problem", "skipped")


def test_probes_take_the_place_of_public_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each family those that are named, and no other."""
    asked: list[Inside] = []

    def checks(self: Inside) -> list[Check]:
        asked.append(self)
        return []

    monkeypatch.setattr(Inside, "checks", checks)
    assert run("--inside", "--probe", "192.0.2.1:443", "--probe", "[2001:db8::1]:443")[0] == 0
    assert (asked[0].probes, asked[0].probes6) == ((("192.0.2.1", 443),), (("2001:db8::1", 443),))
    assert run("--inside", "--probe", "example.com:443")[0] == 2


def test_hostile_text_is_shown_never_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the sandbox may hold anything."""
    monkeypatch.setattr(Inside, "checks", lambda _: [Check("x", lambda: problem("a\x1b[2Jb", "c\x07"))])
    _, told = run("--inside")
    assert "\x1b" not in told
    assert "a\\x1b[2Jb" in told


def test_a_look_at_the_inside_loads_little() -> None:
    """A sandbox may have next to nothing."""
    from test_imports import belongs, command  # type: ignore[import-not-found]

    _, _, modules = command("doctor", "--inside", "--offline", "--json")
    assert belongs(modules, "egress.confine")
    assert belongs(modules, "mitmproxy", "pydantic_settings", "ruamel", "egress.config", "egress.server") == []
