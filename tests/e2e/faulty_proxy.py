"""The real `egress` command with a part of it broken: for tests of failing closed.

    faulty_proxy.py --break egress.gate.resolver:Resolver.resolve:raise -- run --policy ...
    faulty_proxy.py --break-hook requestheaders:hang -- run --policy ...

How: `raise` (an exception whose text is what FAULT_TEXT says), `hang` (for ever), `late` (hooks only: the hook does its
work first, then raises). A broken coroutine function stays one. What is broken is found by name when its module is
imported, before the command runs; the process is otherwise the same.

    faulty_proxy.py --switch FILE --point egress.gate.gate:permit --hook-seconds 1 -- run --policy ...

With `--switch`, every hook and every `--point` works until FILE says otherwise: one line, `NAME:how`, where NAME is a
hook's name or a point as it was given. So one process serves many cases.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import time
from pathlib import Path
from typing import Any

TEXT = os.environ.get("FAULT_TEXT", "broken on purpose")


def broken(original: Any, how: str) -> Any:
    """A function that fails as `how` says, of the same kind as `original`."""
    if inspect.iscoroutinefunction(original):

        async def fail_later(*_: Any, **__: Any) -> Any:
            if how == "hang":
                await asyncio.Event().wait()
            raise RuntimeError(TEXT)

        return fail_later

    def fail(*_: Any, **__: Any) -> Any:
        if how == "hang":
            time.sleep(3600)
        raise RuntimeError(TEXT)

    return fail


def break_attribute(spec: str) -> None:
    """Break `module:attribute.path:how`."""
    module, path, how = spec.split(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, broken(getattr(owner, name), how))


def break_hook(spec: str) -> None:
    """Break the hook `name:how` where the lane runs hooks."""
    from egress.mitm.lane import MitmLane

    name, how = spec.split(":")
    run = MitmLane.run

    async def run_broken(self: Any, handler: Any, hook: Any, data: Any) -> None:
        if hook.name != name:
            await run(self, handler, hook, data)
            return
        if how == "late":
            await run(self, handler, hook, data)
        if how == "hang":
            await asyncio.Event().wait()
        raise RuntimeError(TEXT)

    MitmLane.run = run_broken  # type: ignore[method-assign]


def fault_of(switch: Path, name: str) -> str:
    """What the switch file says of `name`; the empty string: it works."""
    named, _, how = switch.read_text().strip().rpartition(":")
    return how if named == name else ""


def switch_hooks(switch: Path) -> None:
    """Let the file say which hook breaks."""
    from egress.mitm.lane import MitmLane

    run = MitmLane.run

    async def run_switched(self: Any, handler: Any, hook: Any, data: Any) -> None:
        how = fault_of(switch, hook.name)
        if how in {"", "late"}:
            await run(self, handler, hook, data)
        if how:
            await broken(run, "hang" if how == "hang" else "raise")()

    MitmLane.run = run_switched  # type: ignore[method-assign]


def switch_point(switch: Path, point: str) -> None:
    """Let the file say whether `module:attribute.path` breaks."""
    module, path = point.split(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    if inspect.iscoroutinefunction(original):

        async def later(*words: Any, **named: Any) -> Any:
            how = fault_of(switch, point)
            return await (broken(original, how) if how else original)(*words, **named)

        setattr(owner, name, later)
        return

    def now(*words: Any, **named: Any) -> Any:
        how = fault_of(switch, point)
        return (broken(original, how) if how else original)(*words, **named)

    setattr(owner, name, now)


def shorten_hooks(seconds: float) -> None:
    """Let a hook that hangs be given up after `seconds`."""
    from egress.mitm.lane import MitmLane

    defaults = MitmLane.__init__.__kwdefaults__
    assert "hook_seconds" in defaults
    defaults["hook_seconds"] = seconds


def shorten_slack(seconds: float) -> None:
    """Let judging be given up `seconds` after its steps should have been."""
    from egress.gate import build

    assert seconds < build._SLACK_SECONDS
    build._SLACK_SECONDS = seconds


def main() -> None:
    """Break what is named, then be `egress`."""
    words = sys.argv[1:]
    switch = Path()
    while words and words[0] != "--":
        option, value, *words = words
        match option:
            case "--break":
                break_attribute(value)
            case "--break-hook":
                break_hook(value)
            case "--switch":
                switch = Path(value)
                switch_hooks(switch)
            case "--point":
                switch_point(switch, value)
            case "--hook-seconds":
                shorten_hooks(float(value))
            case "--slack-seconds":
                shorten_slack(float(value))
    sys.argv = ["egress", *words[1:]]
    from egress.cli.main import main as egress

    egress()


if __name__ == "__main__":
    main()
