"""Listening on a unix socket: the file that is made and taken away, and the real processes behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.http2_origin import answer_http2
from rig.ledger import wait_until
from rig.modes import HOST, RAW, TUNNELLED
from rig.process import BIN, Process
from rig.proxy import SECRET
from rig.wire import Http2, Wire, head, trusting
from station import family

from egress.config import UnixListener
from egress.errors import StartError
from egress.server.unix_socket import UnixSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from station import Station

ME = os.geteuid()

# the file


def opened(path: Path, mode: int = 0o600) -> UnixSocket:
    """A socket there, listening."""
    made = UnixSocket(UnixListener(str(path)), mode)
    made.sock.listen()
    return made


def reaches(path: Path) -> bool:
    """Whether somebody serves the socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_socket_has_its_mode_whatever_the_umask_says(tmp_path: Path, mode: int) -> None:
    """And nothing is left of it, or of its lock, once it is closed."""
    path = tmp_path / "p.sock"
    before = os.umask(0)
    try:
        made = opened(path, mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert reaches(path)
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_closed_once_more_it_does_no_harm(tmp_path: Path) -> None:
    """Not to a descriptor that has its lock's number by then, nor to who has its name."""
    made = opened(tmp_path / "p.sock")
    made.close()
    other = opened(tmp_path / "p.sock")
    made.close()
    assert reaches(tmp_path / "p.sock")
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_until_it_has_its_mode_nobody_else_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for a moment."""
    modes: list[int] = []
    chmod = Path.chmod

    def change(path: Path, mode: int) -> None:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", change)
    opened(tmp_path / "p.sock", 0o666).close()
    assert modes == [0o600]


def test_what_a_dead_proxy_left_is_replaced(tmp_path: Path) -> None:
    """Its socket, which nobody serves, and its lock, which nobody holds."""
    path = tmp_path / "p.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (tmp_path / "p.sock.lock").touch()
    made = opened(path)
    assert reaches(path)
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_somebody_serves_is_an_error(tmp_path: Path) -> None:
    """Whoever it is, and it goes on serving."""
    path = tmp_path / "p.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(StartError, match="another process serves it"):
            opened(path)
        assert reaches(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.sock"]


def test_two_proxies_never_share_a_path(tmp_path: Path) -> None:
    """Not even before the first of them listens."""
    path = tmp_path / "p.sock"
    first = UnixSocket(UnixListener(str(path)), 0o600)
    with pytest.raises(StartError, match="another process serves it"):
        opened(path)
    first.sock.listen()
    assert reaches(path)
    first.close()
    opened(path).close()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_is_no_socket_is_an_error_and_stays(tmp_path: Path, kind: str) -> None:
    """A link too, wherever it leads."""
    path = tmp_path / "p.sock"
    match kind:
        case "file":
            path.write_text("mine")
        case "folder":
            path.mkdir()
        case "link":
            (tmp_path / "elsewhere").write_text("mine")
            path.symlink_to(tmp_path / "elsewhere")
        case _:
            path.symlink_to(tmp_path / "gone")
    before = path.lstat()
    with pytest.raises(StartError, match="something else has this name, and is no socket"):
        opened(path)
    assert path.lstat() == before
    assert not (tmp_path / "p.sock.lock").exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_a_folder_in_which_others_could_replace_the_socket_is_an_error(tmp_path: Path, mode: int) -> None:
    """With what to do about it; nothing is made there."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StartError, match="other users may write to the folder") as caught:
        opened(folder / "p.sock")
    assert "chmod go-w" in caught.value.hint
    assert list(folder.iterdir()) == []


def test_a_folder_that_others_could_move_away_is_an_error(tmp_path: Path) -> None:
    """It is not enough that the last one is closed to others; a sticky one above, as /tmp is, does no harm."""
    above = tmp_path / "open"
    (above / "closed").mkdir(parents=True)
    above.chmod(0o777)
    with pytest.raises(StartError, match=r"other users may write to the folder `.*/open`"):
        opened(above / "closed" / "p.sock")
    above.chmod(0o1777)
    opened(above / "closed" / "p.sock").close()


def test_a_folder_of_another_user_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may always open it to others."""
    if ME == 0:
        os.chown(tmp_path, 4243, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(StartError, match="belongs to another user, who could replace the socket"):
        opened(tmp_path / "p.sock")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It is not made: whose it would be, and with which mode, is for people to say."""
    with pytest.raises(StartError, match=r"the folder `.*/gone` is not there") as caught:
        opened(tmp_path / "gone" / "p.sock")
    assert "mkdir -p" in caught.value.hint


def test_closing_takes_away_its_own_file_only(tmp_path: Path) -> None:
    """Not what somebody has put in its place since."""
    path = tmp_path / "p.sock"
    made = opened(path)
    path.rename(tmp_path / "moved")
    path.write_text("mine")
    made.close()
    assert path.read_text() == "mine"


# the processes


@contextmanager
def serving(station: Station, path: Path, *more: str) -> Iterator[Process]:
    """The proxy of a station, on a unix socket."""
    command = station.command(*more, listen=f"unix:{path}")
    with Process(command, env={"CANARY": SECRET}, cwd=station.folder, listens=r"listening on unix:") as process:
        process.says(r"(?s)listening on unix:.*UNIX-CONNECT:.*env --listen 127\.0\.0\.1:3128")
        yield process


def wire(path: Path) -> Wire:
    """A connection."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    return Wire(sock)


def tunnel(station: Station, path: Path, host: str) -> Wire:
    """A connection after its CONNECT."""
    made = wire(path)
    made.send(f"CONNECT {host}:{station.port} HTTP/1.1\r\nHost: {host}:{station.port}\r\n\r\n".encode())
    assert made.reply("CONNECT").status == 200
    return made


def test_every_lane_is_carried_by_real_processes(station: Station) -> None:
    """Also what a worker hands over to the mitm process; the rows name the user, and the file goes with the proxy."""
    station.policy.write_text(
        station.policy.read_text().replace("protocol: [https, wss]", "protocol: [https, wss]\n    http2: true")
    )
    path = station.folder / "p.sock"
    ca = station.state / "ca" / "ca.pem"
    with serving(station, path, "--workers", "2") as process:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for _ in range(4):
            with wire(path) as plain:
                assert plain.send(station.request()).reply().status == 200
        with station.origin.behaving(answer_http2, alpn=("h2",)):
            carrier = tunnel(station, path, HOST).carrier
            secured = trusting(ca.read_bytes(), ("h2",)).wrap_socket(carrier, server_hostname=HOST)
            with Wire(secured) as inside:
                client = Http2(inside)
                assert client.reply(client.request(head(f"{HOST}:{station.port}"))).status == 200
        carrier = tunnel(station, path, TUNNELLED).carrier
        with trusting(station.roots.ca_file.read_bytes()).wrap_socket(carrier, server_hostname=TUNNELLED) as secured:
            Wire(secured).send(f"GET / HTTP/1.1\r\nHost: {TUNNELLED}\r\n\r\n".encode())
        with tunnel(station, path, RAW) as raw:
            assert raw.send(f"GET / HTTP/1.1\r\nHost: {RAW}\r\n\r\n".encode()).reply().status == 200
        told = asked(station, "status", "--json")
        assert told["listening"] == f"unix:{path}"
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    assert not path.exists()
    assert not path.with_name("p.sock.lock").exists()
    rows = station.table("SELECT DISTINCT client, lane FROM requests WHERE verdict = 'allow' ORDER BY lane")
    assert rows == [(f"unix:uid={ME}", lane) for lane in ("http", "mitm", "tunnel")]


def asked(station: Station, *words: str) -> dict[str, object]:
    """What a command about this station's proxy prints as JSON."""
    command = [str(BIN / "egress"), *words, "--state-dir", str(station.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ))
    found: dict[str, object] = json.loads(done.stdout)
    return found


CLIENT = """
import os, socket, sys
if int(sys.argv[2]) != os.geteuid():
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(sys.argv[3].encode())
print(sock.recv(65536).decode().split()[1])
"""


def status_for(uid: int, path: Path, request: bytes) -> str:
    """What a process of another user is answered; its own user's where this one may become nobody else."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(path), str(uid), request.decode()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users may look into, as a test's own may not."""
    with tempfile.TemporaryDirectory(prefix="egress-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_sandboxes_are_told_by_user_in_every_process(station: Station, shared: Path) -> None:
    """Those of the file and one that is registered; whoever is none of them is refused."""
    station.config.write_text(f"limits: {{drain_seconds: 3}}\nsandboxes: {{me: {{uid: [{ME}, 4242]}}}}\n")
    path = shared / "p.sock"
    others = (4242, 4243) if ME == 0 else (ME, ME)
    with serving(station, path, "--workers", "2"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        for _ in range(6):
            assert status_for(others[0], path, station.request()) == "200"
            if ME == 0:
                assert status_for(others[1], path, station.request()) == "403"
        added = asked(station, "sandbox", "add", "late", "--uid", "4243", "--json")
        assert added["proxy"] == f"unix:{path}"
        (_, late) = asked(station, "sandbox", "list", "--json")["sandboxes"]  # type: ignore[misc]
        assert late["uids"] == [4243]
        # Its token is asked for besides, of its user alone.
        if ME == 0:
            assert status_for(4243, path, station.request()) == "407"
            assert status_for(4244, path, station.request()) == "403"
    table = set(station.table("SELECT DISTINCT client, sandbox FROM requests"))
    assert (f"unix:uid={others[0]}", "me") in table


def test_a_socket_is_replaced_after_a_kill_and_never_taken_from_the_living(station: Station) -> None:
    """Whoever comes second with the same path does not start."""
    path = station.folder / "p.sock"
    with serving(station, path) as first:
        status, printed = station.refused("--state-dir", str(station.folder / "other"), listen=f"unix:{path}")
        assert (status, "another process serves it" in printed) == (1, True)
        children = family(first)
        first.tell(signal.SIGKILL)
        first.ended()
        assert path.exists()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children.values()), "the others' end")
    with serving(station, path), wire(path) as again:
        assert again.send(station.request()).reply().status == 200


def test_a_socket_and_an_address_are_served_side_by_side(station: Station) -> None:
    """Paths are those of the configuration's folder."""
    station.config.write_text('listen: [127.0.0.1:0, {unix: p.sock, mode: "0660"}]\nlimits: {drain_seconds: 3}\n')
    command = [word for word in station.command() if word not in {"--listen", "127.0.0.1:0"}]
    with Process(command, env={"CANARY": SECRET}, cwd=station.folder, listens=r"on http://([\d.]+):(\d+)") as process:
        station.address = process.address()
        process.says(r"listening on unix:/\S+/p\.sock\n")
        path = station.folder / "p.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with wire(path) as unix:
            assert unix.send(station.request()).reply().status == 200
        assert station.ask().status == 200
        with wire(path) as unix:
            target = f"127.0.0.1:{station.address[1]}"
            unix.send(f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert unix.reply().status == 403
