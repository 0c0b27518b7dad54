"""The process with number 1 among the command's: builds what it sees, drops every privilege, starts it, reaps for it.

It stays, as the command's user and without capabilities: who of them the kernel asks finds nothing to gain here, since
its memory is hidden, and no signal of the command's reaches it. Its end is the end of all of them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import termios
from typing import TYPE_CHECKING, Final, NoReturn

from egress.confine import exec_filter, exec_mounts
from egress.confine.exec_channel import Channel, Word
from egress.confine.exec_kernel import (
    drop_capabilities,
    end_with_parent,
    hide_memory,
    lock_privileges,
    set_filter,
    show_name,
)
from egress.confine.exec_plan import INIT_NAME, ConfineError
from egress.confine.exec_readable import check_unwritable

if TYPE_CHECKING:
    from egress.confine.exec_plan import Plan, User

_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
_LAST_STREAM: Final = 2
# Python's own doing: it ignores some, and handles others. What our caller ignores, as nohup does, stays ignored.
_OWN: Final = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)


def main(plan: Plan, channel: Channel) -> NoReturn:
    """Be that process until the command ends, or nobody waits for it any more."""
    try:
        # The parent is in another PID namespace, and has no number here.
        end_with_parent(0)
        show_name(INIT_NAME)
        # The kernel keeps from number 1 every signal of the command's but those that it handles, as Python does this.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        _prepare(plan)
        terminal = _terminal(plan, channel)
        wake = _woken_by_children()
        command = _start(plan, terminal)
        channel.send(Word.STARTED)
        if terminal is not None:
            os.close(terminal)
        _leave_streams()
        _serve(channel, command, wake)
    except ConfineError as error:
        channel.send(Word.FAILED, (error.message, error.hint))
    except OSError as error:
        channel.send(Word.FAILED, (f"the command cannot be confined: {error.strerror or error}", ""))
    except BaseException as error:  # noqa: BLE001 - it is told outside, and this process ends whatever it was
        channel.send(Word.FAILED, (f"the command cannot be confined: {error!r}", ""))
    finally:
        os._exit(1)


def _prepare(plan: Plan) -> None:
    hide_memory()
    exec_mounts.build(plan.view, plan.user, plan.trust)
    os.setsid()
    lock_privileges()
    _become(plan.user)
    drop_capabilities()
    # A change of user makes the memory visible again, and forgets who is waited for.
    hide_memory()
    end_with_parent(0)
    try:
        os.chdir(plan.view.folder)
    except OSError as error:
        message = f"the user `{plan.user.name}` cannot work in `{plan.view.folder}`: {os.strerror(error.errno or 0)}"
        raise ConfineError(
            message, hint="change to a folder that it may enter, or name another user with --user"
        ) from error
    program = exec_filter.network_filter()
    if program is None:
        message = f"the system calls of {os.uname().machine} are not known here, so the command cannot be confined"
        raise ConfineError(message, hint="use x86_64 or aarch64")
    set_filter(program)
    check_unwritable(plan.view.read_only)


def _become(user: User) -> None:
    if user.change:
        # Only its own group: one such as `disk` or `docker` is as good as root.
        os.setgroups([user.gid])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)


def _terminal(plan: Plan, channel: Channel) -> int | None:
    """A terminal of the command's own, whose other end goes out; this end, which controls this session."""
    if plan.terminal is None:
        return None
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", *plan.terminal, 0, 0))
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    channel.send(Word.TERMINAL, None, (master,))
    os.close(master)
    return slave


def _woken_by_children() -> int:
    """A descriptor that can be read once a child has ended or stopped."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _start(plan: Plan, terminal: int | None) -> int:
    """Start the command in a process group of its own, which the terminal is given to."""
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    try:
        signal.set_wakeup_fd(-1)
        os.setpgid(0, 0)
        if terminal is not None:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(terminal, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            for descriptor in (0, 1, 2):
                if os.isatty(descriptor):
                    os.dup2(terminal, descriptor)
        for number in _OWN:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _close_others()
        _execute(plan)
    finally:
        os._exit(_NOT_EXECUTABLE)


def _close_others() -> None:
    """What was open around us is not the command's: the channel, the proxy's sockets, a caller's descriptors.

    As they are listed: a limit that was lowered since says nothing of the highest.
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names alone
        if int(name) > _LAST_STREAM:
            # The one that listed them is gone already.
            with contextlib.suppress(OSError):
                os.close(int(name))


def _leave_streams() -> None:
    """The command has them, and only it keeps them open."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def _execute(plan: Plan) -> NoReturn:
    program = plan.argv[0]
    try:
        os.execvpe(program, plan.argv, dict(plan.env))  # noqa: S606 - running it is what is asked
    except OSError as error:
        missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
        why = "not found" if missing else os.strerror(error.errno or 0)
        os.write(2, os.fsencode(f"egress: {program}: {why}\n"))
        os._exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)


def _serve(channel: Channel, command: int, wake: int) -> None:
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if wake in ready:
            os.read(wake, 512)
            if _reap(channel, command):
                return
        if channel.fileno() in ready:
            _told(channel, command)


def _reap(channel: Channel, command: int) -> bool:
    """See to every child that changed; whether the command has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return True
        if not pid:
            return False
        if pid != command:
            continue
        if os.WIFSTOPPED(status):
            channel.send(Word.STOPPED, os.WSTOPSIG(status))
        else:
            channel.send(Word.ENDED, os.waitstatus_to_exitcode(status))
            return True


def _told(channel: Channel, command: int) -> None:
    said = channel.receive()
    if said is None:
        # Nobody waits any more: all of them end.
        os._exit(1)
    word, value, _ = said
    number = signal.SIGCONT if word is Word.CONTINUE else value
    with contextlib.suppress(ProcessLookupError):
        os.killpg(command, number)
