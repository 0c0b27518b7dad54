"""What happens to the audit when the disk is full, the database is locked, deleted, replaced, read-only or broken.

In each: what cannot be recorded is refused, what was accepted is recorded in the end, nothing is recorded twice, the
writer says what is wrong, and it recovers by itself.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditReader, AuditWriter
from egress.audit import store as store_module
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _ids(path: Path, table: str = "decisions") -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(f"SELECT id FROM {table} ORDER BY id")]  # noqa: S608 -- constants


def _fill_until_unhealthy(writer: AuditWriter, decision: Callable, first: int = 0) -> int:
    """Offer big decisions until the writer refuses; gives the number of the first that was refused."""
    end = time.monotonic() + 20
    number = first
    while writer.offer(decision(number, path="/" + "x" * 2000)):
        number += 1
        assert time.monotonic() < end, "the disk never filled"
        if number % 50 == 0:
            writer.flush(0.1)
    return number


class PageLimit:
    """A full disk for who may not mount one: SQLite refuses to let the database grow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages = 120
        real = store_module.open_for_writing

        def limited(path: Path) -> sqlite3.Connection:
            connection = real(path)
            connection.execute(f"PRAGMA max_page_count = {self.pages}")
            return connection

        monkeypatch.setattr(store_module, "open_for_writing", limited)

    def free(self) -> None:
        """Give room."""
        self.pages = 1_000_000


class SmallDisk:
    """A real file system of 2 MB with a ballast file in it."""

    def __init__(self, folder: Path) -> None:
        self.ballast = folder / "ballast"
        self.ballast.write_bytes(bytes(1024 * 1024))

    def free(self) -> None:
        """Give room."""
        self.ballast.unlink()


@contextmanager
def _mounted(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["page limit", "file system"])
def test_a_full_disk_refuses_keeps_and_recovers(
    *,
    kind: str,
    tmp_path: Path,
    decision: Callable,
    outcome: Callable,
    until: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything accepted before the disk filled is there once it has room again, once, and the gap is on record."""
    folder = tmp_path / "disk"
    with _mounted(folder) if kind == "file system" and os.geteuid() == 0 else closing(_Nothing(folder)):
        disk = SmallDisk(folder) if os.path.ismount(folder) else PageLimit(monkeypatch)
        path = folder / "audit.db"
        writer = AuditWriter(path, flush_interval=0.02)
        writer.start()
        refused = _fill_until_unhealthy(writer, decision)
        until(lambda: not writer.healthy)
        assert "full" in (writer.problem or "")
        assert not writer.offer(decision(refused))
        assert writer.offer(outcome(0)), "what was decided can still end on record"
        disk.free()
        until(lambda: writer.healthy)
        assert writer.offer(decision(refused + 1))
        assert writer.close(10)
        assert _ids(path) == [f"id-{number:06d}" for number in (*range(refused), refused + 1)]
        assert _ids(path, "outcomes") == ["id-000000"]
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            ((kind_of_event, detail),) = connection.execute("SELECT kind, detail FROM events").fetchall()
        assert kind_of_event == "gap"
        assert "decisions" in detail


class _Nothing:
    """In place of a mount: just the folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()

    def close(self) -> None:
        """Nothing to undo."""


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_locked_database_refuses_keeps_and_recovers(
    *,
    lock: str,
    database: Path,
    start: Callable[..., AuditWriter],
    decision: Callable,
    outcome: Callable,
    until: Callable,
) -> None:
    """While another process holds the lock decisions are refused; when it lets go, all that was accepted is there."""
    writer = start()
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(lock)
        assert writer.offer(decision(1))
        until(lambda: not writer.healthy)
        assert "lock" in (writer.problem or "")
        assert not writer.offer(decision(2))
        assert writer.offer(outcome(1))
        other.execute("ROLLBACK")
    until(lambda: writer.healthy)
    assert writer.close(5)
    assert _ids(database) == ["id-000001"]
    assert _ids(database, "outcomes") == ["id-000001"]


def test_a_short_lock_is_waited_for(database: Path, start: Callable[..., AuditWriter], decision: Callable) -> None:
    """A person with the SQLite shell does not stop the traffic."""
    writer = start()
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writer.offer(decision(1))
        time.sleep(0.2)
        assert writer.healthy
        other.execute("ROLLBACK")
    assert writer.flush(5)
    assert writer.healthy


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal", "-shm"), ("-wal",), ("-wal", "-shm")])
def test_a_deleted_file_is_never_written_to(
    suffixes: tuple[str, ...], database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """Whatever of it is deleted, the next batch is in the database at the path, and a row says what happened."""
    writer = start()
    writer.offer(decision(1))
    assert writer.flush(5)
    for suffix in suffixes:
        database.with_name(database.name + suffix).unlink()
    writer.offer(decision(2))
    assert writer.flush(5)
    assert writer.close(5)
    expected = ["id-000002"] if "" in suffixes else ["id-000001", "id-000002"]
    assert _ids(database) == expected
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT kind FROM events").fetchall() == [("replaced",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_deleted_folder_is_made_again(database: Path, start: Callable[..., AuditWriter], decision: Callable) -> None:
    """The state folder may go as a whole."""
    writer = start()
    database.parent.rename(database.parent.with_name("gone"))
    writer.offer(decision(1))
    assert writer.flush(5)
    assert _ids(database) == ["id-000001"]


def test_a_file_deleted_during_the_commit_loses_nothing(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that went into the deleted file is written again into the new one."""
    real, deleted = store_module.write_batch, []

    def delete_while_writing(*given: object) -> object:
        if not deleted:
            deleted.append(1)
            database.unlink()
        return real(*given)  # type: ignore[arg-type]

    writer = start()
    monkeypatch.setattr(store_module, "write_batch", delete_while_writing)
    writer.offer(decision(1))
    assert writer.flush(5)
    assert writer.close(5)
    assert _ids(database) == ["id-000001"]


def test_a_moved_database_keeps_what_was_in_its_wal(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """`mv audit.db old.db` under a running proxy rotates: the old rows in the old file, the new ones in a new file."""
    writer = start()
    writer.offer(decision(1))
    assert writer.flush(5)
    old = database.with_name("old.db")
    database.rename(old)
    writer.offer(decision(2))
    assert writer.flush(5)
    assert writer.close(5)
    assert _ids(old) == ["id-000001"]
    assert _ids(database) == ["id-000002"]


def test_a_database_put_in_its_place_is_written_to_and_stays_sound(
    database: Path, tmp_path: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """The old WAL is not replayed into another database."""
    other_path = tmp_path / "other.db"
    other = start(other_path)
    other.offer(decision(100))
    assert other.close(5)
    writer = start()
    for number in range(50):
        writer.offer(decision(number))
    assert writer.flush(5)
    other_path.rename(database)
    writer.offer(decision(101))
    assert writer.flush(5)
    assert writer.close(5)
    assert _ids(database) == ["id-000100", "id-000101"]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_wal_that_a_reader_keeps_is_set_aside(
    database: Path, tmp_path: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """What cannot be moved into the old database is neither replayed into the new one nor thrown away."""
    other_path = tmp_path / "other.db"
    assert start(other_path).close(5)
    writer = start()
    writer.offer(decision(1))
    assert writer.flush(5)
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM decisions").fetchall()
        writer.offer(decision(2))
        assert writer.flush(5)
        other_path.rename(database)
        writer.offer(decision(3))
        assert writer.flush(10)
    assert writer.close(5)
    assert _ids(database) == ["id-000003"]
    assert [file.name for file in database.parent.iterdir() if "left" in file.name]
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_foreign_file_put_in_its_place_stops_the_record_until_it_is_gone(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, until: Callable
) -> None:
    """Rubbish at the path is neither overwritten nor ignored."""
    writer = start()
    rubbish = database.with_name("rubbish")
    rubbish.write_bytes(b"rubbish " * 1000)
    rubbish.chmod(0o600)
    rubbish.rename(database)
    assert writer.offer(decision(1))
    until(lambda: not writer.healthy)
    assert "not an audit database" in (writer.problem or "")
    assert database.read_bytes().startswith(b"rubbish")
    database.unlink()
    until(lambda: writer.healthy)
    assert writer.flush(5)
    assert _ids(database) == ["id-000001"]


BROKEN = {
    "rubbish": (lambda path: path.write_bytes(b"rubbish " * 1000), "not an audit database"),
    "torn": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "damaged"),
    "zeroed pages": (lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(40960)), "damaged"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
    "a symbolic link": (lambda path: (path.rename(f"{path}2"), path.symlink_to(f"{path}2")), "not a regular file"),
    "open to others": (lambda path: path.chmod(0o666), "other users"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_file_that_is_not_to_be_trusted_is_refused_at_the_start(
    fault: str, database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """Damaged, not a file, a link, or writable by others: a clear error, and no proxy without a record."""
    writer = start()
    writer.offer(decision(1))
    assert writer.close(5)
    spoil, sentence = BROKEN[fault]
    spoil(database)
    with pytest.raises(AuditError, match=sentence):
        start()


def test_a_file_of_another_user_is_refused(start: Callable[..., AuditWriter], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else can prepare the file that the record goes to."""
    start().close(5)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(AuditError, match="another user"):
        start()


AS_NOBODY = """
import os, sys
from pathlib import Path
import sqlite_utils
sqlite_utils.Database(memory=True).close()  # loads now what the other user may not be able to read
from egress.audit import *
from egress.errors import AuditError
folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.chown(folder, 65534, 65534)
    os.setgid(65534); os.setuid(65534)
writer = AuditWriter(folder / "audit.db", flush_interval=0.02)
writer.start()
first = DecisionEvent(id="first", time_us=1, sandbox="s", client="c", verdict="allow", reason="r")
assert writer.offer(first) and writer.close(5)
folder.chmod(0o500)
print([row.id for row in AuditReader(folder / "audit.db").newest()])
(folder / "audit.db").chmod(0o400)
try:
    AuditWriter(folder / "audit.db").start()
except AuditError as error:
    print(error)
try:
    AuditWriter(folder / "new.db").start()
except AuditError as error:
    print(error)
"""


def test_a_read_only_folder_can_be_read_and_is_refused_by_the_writer() -> None:
    """A copy on a read-only disk can be read; a proxy that could not record does not start. As an ordinary user."""
    # Not below pytest's own folder, which is closed to the user that the script becomes.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, folder], capture_output=True, text=True, timeout=30, check=False
        )
        Path(folder).chmod(0o700)
    assert done.returncode == 0, done.stderr
    read, writer_refused, new_refused = done.stdout.splitlines()
    assert read == "['first']"
    assert "audit.db" in writer_refused
    assert "new.db" in new_refused


KILLED = textwrap.dedent(
    """
    import sys, time
    from egress.audit import *
    writer = AuditWriter(sys.argv[1], flush_interval=0.05)
    writer.start()
    number = int(sys.argv[2])
    while True:
        event = DecisionEvent(id=f"id-{number:09d}", time_us=time.time_ns() // 1000, sandbox="s", client="c",
                              verdict="allow", reason="rule-allow", path="/" + "x" * 500)
        if writer.offer(event):
            if number % 3:
                writer.offer(OutcomeEvent(id=event.id, time_us=event.time_us, status=200))
            print(number, time.time_ns() // 1000, flush=True)
            number += 1
        time.sleep(0.0005)
    """
)


# `make crash` has it killed more often.
KILLS = int(os.environ.get("EGRESS_KILLS", "20"))


def test_kill_9_at_any_moment_loses_no_more_than_the_flush_interval(database: Path) -> None:
    """Killed under load: the file opens, verifies, and has every row accepted one flush before, in order, once."""
    number = 0
    for attempt in range(KILLS):
        arguments = [sys.executable, "-c", KILLED, str(database), str(number)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(0.03 * (attempt % 10))
            process.send_signal(signal.SIGKILL)
            killed_us = time.time_ns() // 1000
            accepted = [line.split() for line in process.stdout.read().splitlines() if len(line.split()) == 2]
        with AuditReader(database) as reader:
            found = {row.id: row for row in reader.newest(limit=1_000_000)}
            report = reader.verify()
        assert report.holds, report.problems
        assert report.rows >= len(found)
        # The flush interval, a commit, and what a busy machine needs.
        due = [number for number, time_us in accepted if int(time_us) < killed_us - 600_000]
        assert {f"id-{int(number):09d}" for number in due} <= set(found)
        assert sorted(found) == [f"id-{n:09d}" for n in range(len(found))], "no hole: what is missing is the newest"
        assert all((found[name].state == "open") == (int(name[3:]) % 3 == 0) for name in list(found)[:-1][-500:-1])
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        number = len(found)
    assert number > 0
