"""The screens of the viewer that tests compare and the guide shows, drawn from the seeded database.

python tests/viewer/pictures.py            writes tests/viewer/screens/*.txt and docs/guides/images/*.svg anew
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.widgets import Input
from viewer.driving import settled, until
from viewer.seed import seed

from egress.cli.audit_desk import PolicyDesk
from egress.cli.loading import Surroundings
from egress.viewer.app import Viewer

if TYPE_CHECKING:
    from textual.pilot import Pilot

HERE = Path(__file__).parent
IMAGES = HERE.parent.parent / "docs" / "guides" / "images"
SCREENS = HERE / "screens"
POLICY = """\
version: 1
rules:
  - name: our repos
    allow: api.github.com
    methods: [GET]
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A screen: a filter to set, then keys, then a text that says it is there.

    `image`: the guide shows it. `policy`: one is named.
    """

    name: str
    size: tuple[int, int]
    wanted: str = ""
    keys: tuple[str, ...] = ()
    shows: str = "following"
    image: bool = False
    policy: bool = True


SMALL, LARGE = (80, 24), (120, 40)
PICTURES = (
    Picture("rows-80", SMALL),
    Picture("rows-tmux-80", SMALL, policy=False),
    Picture("rows-120", LARGE, image=True),
    Picture("detail-80", SMALL, "secret:github", ("enter",), "put in"),
    Picture("detail-120", LARGE, "", ("N", "enter"), "what to do", image=True),
    Picture("error-80", SMALL, "", ("slash", *"status", "colon", "x"), "is no number", image=True),
    Picture("grouped-80", SMALL, "host:t*.example,packages.example", ("g",), "\u00d7"),
    Picture("help-80", SMALL, "", ("question_mark",), "Keys"),
    Picture("top-120", LARGE, "", ("t",), "Top talkers"),
    Picture("allow-80", SMALL, "method:DELETE", ("a",), "@@"),
    Picture("allow-120", LARGE, "method:DELETE", ("a",), "+    paths", image=True),
    Picture("why-120", LARGE, "method:DELETE", ("w",), "Now, by"),
)


def lines_of(app: Viewer) -> list[str]:
    """The lines of the screen."""
    return [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]


async def _shows(pilot: Pilot[None], app: Viewer, text: str) -> None:
    await until(pilot, lambda: text in "\n".join(lines_of(app)))
    await settled(pilot)
    await pilot.pause(0.3)


async def _draw(picture: Picture, database: Path, policy: Path, theme: str) -> tuple[str, str]:
    desk = PolicyDesk([str(policy)], Surroundings()) if picture.policy else None
    app = Viewer(database, picture.wanted, desk)
    app.theme = theme
    async with app.run_test(size=picture.size) as pilot:
        await _shows(pilot, app, "following")
        app.query_one(Input).cursor_blink = False
        for key in picture.keys:
            await pilot.press(key)
        await _shows(pilot, app, picture.shows)
        app.clear_notifications()
        return "\n".join(lines_of(app)) + "\n", app.export_screenshot(title="egress audit")


def draw(picture: Picture, folder: Path, theme: str = "ansi-dark") -> tuple[str, str]:
    """The screen as text and as SVG; `folder` must be empty. What names the folder is left out."""
    # A name of its own for each would have another width, and break lines elsewhere.
    database, policy = Path("audit.db"), Path("policy.yaml")
    before = Path.cwd()
    os.chdir(folder)
    try:
        seed(database)
        policy.write_text(POLICY)
        text, svg = asyncio.run(_draw(picture, database, policy, theme))
    finally:
        os.chdir(before)
    return text, svg


def _stable(svg: str, name: str) -> str:
    """Without the id that is made anew each time, and without fonts from elsewhere."""
    svg = re.sub(r"terminal-\d+", f"terminal-{name}", svg)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    """Write them all."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    for folder in (SCREENS, IMAGES):
        folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            (SCREENS / f"{picture.name}.txt").write_text(draw(picture, Path(folder))[0])
        if picture.image:
            with tempfile.TemporaryDirectory() as folder:
                svg = draw(picture, Path(folder), "textual-dark")[1]
            (IMAGES / f"audit-{picture.name}.svg").write_text(_stable(svg, picture.name))


if __name__ == "__main__":
    main()
