"""Whole screens, compared with files that `python -m viewer.pictures` writes anew; one in a real terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from viewer.pictures import PICTURES, SCREENS, Picture, draw
from viewer.seed import seed

if TYPE_CHECKING:
    from pathlib import Path

ROOT = SCREENS.parent.parent.parent
_PATIENCE = 30.0


@pytest.mark.parametrize("picture", PICTURES, ids=[picture.name for picture in PICTURES])
def test_a_screen_is_as_it_was_drawn(picture: Picture, tmp_path: Path) -> None:
    """Line for line; whoever changes a screen draws it anew, and sees in the diff what that changes."""
    assert draw(picture, tmp_path)[0] == (SCREENS / f"{picture.name}.txt").read_text()


@pytest.mark.parametrize("theme", ["ansi-light", "textual-light", "textual-dark"])
def test_every_theme_shows_the_same_text(theme: str, tmp_path: Path) -> None:
    """Light and dark differ in colours alone."""
    assert draw(PICTURES[0], tmp_path, theme)[0] == (SCREENS / f"{PICTURES[0].name}.txt").read_text()


def test_a_small_terminal_is_drawn_whole(tmp_path: Path) -> None:
    """Far below 80x24 there is still a table, and no line is too long."""
    lines = draw(Picture("tiny", (40, 10), shows="host"), tmp_path)[0].splitlines()
    assert len(lines) == 10
    assert max(map(len, lines)) <= 40


@pytest.mark.e2e
def test_in_tmux_the_screen_is_the_one_of_the_pictures(tmp_path: Path) -> None:
    """The command itself in a real terminal: tmux holds what the tests compare; `q` leaves nothing."""
    tmux = shutil.which("tmux")
    assert tmux is not None, "tmux is one of the packages that `make system` installs"
    seed(tmp_path / "audit.db")
    socket = str(tmp_path / "tmux")
    command = f"exec {sys.executable} -c 'from egress.cli.main import main; main()' audit --audit audit.db"
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TMUX", "COLORFGBG"}}
    environment |= {"TZ": "UTC", "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}

    def ask(*arguments: str) -> str:
        words = [tmux, "-u", "-S", socket, "-f", "/dev/null", *arguments]
        return subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    ask("new-session", "-d", "-x", "80", "-y", "24", "-s", "viewer", command)
    try:
        ask("set-option", "-g", "remain-on-exit", "on")
        expected = (SCREENS / "rows-tmux-80.txt").read_text().rstrip("\n")
        end = time.monotonic() + _PATIENCE
        while (shown := _trimmed(ask("capture-pane", "-p", "-t", "viewer"))) != expected and time.monotonic() < end:
            time.sleep(0.1)
        assert shown == expected
        ask("send-keys", "-t", "viewer", "q")
        while ask("display-message", "-p", "-t", "viewer", "#{pane_dead}").strip() != "1":
            assert time.monotonic() < end
            time.sleep(0.1)
        assert "following" not in ask("capture-pane", "-p", "-t", "viewer")
    finally:
        ask("kill-server")


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))
