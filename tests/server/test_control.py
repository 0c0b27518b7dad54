"""The control socket: who may ask, how much, how long, and that nobody who asks holds up the supervisor."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from egress.errors import StartError, StateError
from egress.server import askers as askers_module
from egress.server.control import Control, claim
from egress.server.control_client import MOST_ANSWERED, MOST_ASKED, SOCKET_NAME, ask
from egress.server.events import Events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LARGE = "x" * (MOST_ANSWERED // 2)


class Served:
    """A control socket, and what its owner would do meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = Events()
        self.asked: list[Mapping[str, Any]] = []
        self.waiting: list[Callable[[Mapping[str, Any]], None]] = []
        self.control = Control(folder, self.events, self._handle)

    def _handle(self, request: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], None], who: str) -> None:
        self.asked.append(request)
        self.who = who
        if request.get("wait"):
            self.waiting.append(answer)
        else:
            answer({"said": LARGE if request.get("large") else "yes"})

    def client(self, data: bytes = b"") -> socket.socket:
        """A client that said this."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.folder / SOCKET_NAME))
        sock.settimeout(5)
        sock.sendall(data)
        return sock

    def turn(self, seconds: float = 0.1) -> None:
        """Let the owner act for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.events.act(time.monotonic() + 0.01)

    def reply(self, sock: socket.socket) -> bytes:
        """All that a client is told until the end."""
        sock.settimeout(0)
        data = b""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            self.events.act(time.monotonic())
            try:
                part = sock.recv(1 << 20)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return data
            if not part:
                return data
            data += part
        raise AssertionError(data)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A socket that has little patience."""
    monkeypatch.setattr(askers_module, "_SECONDS", 0.3)
    made = Served(tmp_path)
    yield made
    made.control.close()
    made.events.close()


def test_a_request_is_a_line_and_so_is_its_answer(served: Served) -> None:
    """However it comes in parts."""
    with served.client(b'{"a": ') as sock:
        served.turn()
        sock.sendall(b"1}\n")
        assert json.loads(served.reply(sock)) == {"said": "yes"}
    assert served.asked == [{"a": 1}]
    assert served.who == f"control socket, uid {os.getuid()}", "as the kernel says, for the record"


@pytest.mark.parametrize(
    "data", [b"nonsense\n", b"[]\n", b"\xff\xfe\n", b"[" * 4000 + b"\n", b'{"a": 1}\n{"b": 2}\n', b"\n"]
)
def test_what_is_no_request_is_told_so(served: Served, data: bytes) -> None:
    """It reaches nobody."""
    with served.client(data) as sock:
        assert "error" in json.loads(served.reply(sock))
    assert served.asked == []


@pytest.mark.parametrize("data", [b"", b'{"a"', b"x" * (MOST_ASKED + 1)])
def test_who_is_silent_slow_or_says_too_much_is_closed(served: Served, data: bytes) -> None:
    """Others are answered meanwhile, and the owner waits for nobody."""
    with served.client(data) as slow:
        with served.client(b"{}\n") as other:
            assert json.loads(served.reply(other)) == {"said": "yes"}
        assert served.reply(slow) == b""
    assert served.asked == [{}]


def test_who_does_not_take_the_answer_is_closed(served: Served) -> None:
    """An answer that the kernel does not hold for its reader waits so long, and no longer."""
    with served.client(b'{"large": true}\n') as sock:
        served.turn(0.6)
        received = served.reply(sock)
    assert 0 < len(received) < len(LARGE)


def test_who_takes_a_large_answer_gets_it_whole(served: Served) -> None:
    """In as many parts as it takes."""
    with served.client(b'{"large": true}\n') as sock:
        assert json.loads(served.reply(sock)) == {"said": LARGE}


def test_an_answer_may_take_longer_than_a_question(served: Served) -> None:
    """Whoever waits for a reload waits for us."""
    with served.client(b'{"wait": true}\n') as sock:
        served.turn(0.6)
        served.waiting[0]({"at": "last"})
        assert json.loads(served.reply(sock)) == {"at": "last"}


def test_who_left_is_not_answered(served: Served) -> None:
    """The answer comes too late, and is dropped."""
    served.client(b'{"wait": true}\n').close()
    served.turn()
    served.waiting[0]({"at": "last"})
    served.turn()


def test_there_are_so_many_clients_at_most(served: Served) -> None:
    """One more is closed at once; there is room again as soon as one has left."""
    clients = [served.client() for _ in range(askers_module.AT_MOST)]
    served.turn()
    with served.client(b"{}\n") as more:
        assert served.reply(more) == b""
    for sock in clients:
        sock.close()
    served.turn()
    with served.client(b"{}\n") as more:
        assert json.loads(served.reply(more)) == {"said": "yes"}


def test_only_the_proxys_own_user_and_root_are_heard() -> None:
    """The kernel says who connected: another user is closed unheard even where the socket's mode lets it in."""
    if os.geteuid() != 0:
        pytest.skip("cannot run here: needs root, to become another user")
    folder = Path(tempfile.mkdtemp(prefix="egress-control-"))
    try:
        folder.chmod(0o755)
        served = Served(folder)
        (folder / SOCKET_NAME).chmod(0o666)
        pid = os.fork()
        if not pid:
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.connect(str(folder / SOCKET_NAME))
                sock.sendall(b"{}\n")
                sock.settimeout(5)
                os._exit(0 if sock.recv(10) == b"" else 1)
            except ConnectionError:
                os._exit(0)
            finally:
                os._exit(2)
        served.turn(0.5)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert served.asked == []
        served.control.close()
        served.events.close()
    finally:
        shutil.rmtree(folder)


def test_the_socket_is_its_users_alone_and_goes_with_it(served: Served) -> None:
    """Mode 0600 whatever the umask; nothing is left of it."""
    path = served.folder / SOCKET_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    served.control.close()
    assert not path.exists()


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    """Its owner died without a word."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET_NAME))
    served = Served(tmp_path)
    with served.client(b"{}\n") as sock:
        assert json.loads(served.reply(sock)) == {"said": "yes"}
    served.control.close()
    served.events.close()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """A second one is refused as long as the first lives, and says what to do."""
    lock = claim(tmp_path)
    with pytest.raises(StartError, match="another proxy runs with the state folder") as raised:
        claim(tmp_path)
    assert "--state-dir" in raised.value.hint
    os.close(lock)
    os.close(claim(tmp_path))


def test_a_folder_of_any_length_can_have_one(tmp_path: Path) -> None:
    """The kernel's limit of 108 bytes is for the path that it is given, which is a short one."""
    folder = tmp_path / ("long" * 40) / ("longer" * 30)
    folder.mkdir(parents=True)
    served = Served(folder)
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if ask(folder, {"a": 1}, seconds=5) == {"said": "yes"} else 1)
        finally:
            os._exit(2)
    served.turn(0.5)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    served.control.close()
    served.events.close()


@pytest.mark.parametrize("left", ["nothing", "no folder", "a dead socket", "a file"])
def test_without_a_proxy_the_client_says_so(tmp_path: Path, left: str) -> None:
    """One sentence, and what to do."""
    folder = tmp_path / "gone" if left == "no folder" else tmp_path
    if left == "a dead socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / SOCKET_NAME))
    elif left == "a file":
        (tmp_path / SOCKET_NAME).write_text("")
    with pytest.raises(StateError, match="no proxy runs with the state folder") as raised:
        ask(folder, {}, seconds=1)
    assert "--state-dir" in raised.value.hint
