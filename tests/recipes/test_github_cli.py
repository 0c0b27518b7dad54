"""gh by its recipe: the requests that gh makes with a token of its environment, and git with the helper that gh is."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest
from rig.proxy import port_of
from rig.recipes import policies, sandbox
from rig.services import Answer, Services, bare_repository, behind, repositories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.services import Asked

TOKEN = "ghp_0123456789abcdef0123456789abcdefreal"
(POLICY,) = policies("github-cli.md")
API = "api.github.com"
FILES = "release-assets.githubusercontent.com"
BASIC = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
JSON = {"Content-Type": "application/json; charset=utf-8"}
# What `gh auth setup-git` has git call prints this.
HELPER = '!f() { test "$1" = get && printf "username=x-access-token\\npassword=%s\\n" "$GH_TOKEN"; }; f'


def api(port: int) -> Callable[[Asked], Answer]:
    """The parts of the API that are asked below."""

    def serve(asked: Asked) -> Answer:
        if asked.path.endswith("/assets/1"):
            return Answer(302, b"", {"Location": f"https://{FILES}:{port}/file?sig=1"})
        return Answer(200, json.dumps({"asked": asked.path}).encode(), JSON)

    return serve


def test_requests_of_gh_carry_the_token(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """GraphQL, REST, and a release's file, which is on another host and gets nothing."""
    port = port_of(origin)
    services = Services(
        {
            API: behind(api(port), f"token {TOKEN}"),
            FILES: lambda asked: Answer(200, asked.credential.encode()),
        }
    )
    inside = sandbox(start, tmp_path / "home", POLICY, port, {"github": TOKEN})
    held = {"Authorization": f"token {inside.held['GH_TOKEN']}", "User-Agent": "GitHub CLI 2.80.0"}
    with origin.behaving(services.behave), inside.http() as client:
        root = f"https://{API}:{port}"
        asked = {"query": "query{viewer{login}}"}
        assert client.post(f"{root}/graphql", json=asked, headers=held).json() == {"asked": "/graphql"}
        assert client.get(f"{root}/repos/acme/app/pulls", headers=held).status_code == 200
        moved = client.get(f"{root}/repos/acme/app/releases/assets/1", headers=held)
        assert moved.status_code == 302
        assert client.get(moved.headers["location"]).content == b""
        # A client that takes its token along does not get it out.
        assert client.get(moved.headers["location"], headers=held).status_code == 403
        assert client.get(f"{root}/repos/acme/app", headers={"Authorization": "token ghp_stolen"}).status_code == 403
        assert client.get(f"{root}/repos/other/app", headers=held).status_code == 403
    assert inside.held["GH_TOKEN"].startswith("ghp_egress")
    assert inside.refused == ["placeholder-misdirected", "placeholder-required", "path-not-allowed"]
    assert TOKEN not in repr(inside.proxy.ledger.events)


@pytest.mark.e2e
def test_git_signs_in_with_what_gh_gives_it(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """It is asked for a credential, as it has none; the one that it then sends becomes the real one.

    Also on a push of several megabytes, which is chunked.
    """
    port = port_of(origin)
    bare_repository(tmp_path / "served", "acme/app.git")
    services = Services({"github.com": behind(repositories(tmp_path / "served"), BASIC)})
    inside = sandbox(start, tmp_path / "home", POLICY, port, {"github": TOKEN})
    url = f"https://github.com:{port}/acme/app.git"
    with origin.behaving(services.behave):
        git = ("git", "-c", f"credential.helper={HELPER}", "-c", "http.postBuffer=1048576")
        work = inside.home / "work"
        assert inside.run(*git, "clone", "-q", url, "work").returncode == 0
        work.joinpath("noise.bin").write_bytes(os.urandom(3 << 20))
        assert inside.run(*git, "add", ".", cwd=work).returncode == 0
        named = ("-c", "user.name=T", "-c", "user.email=t@x.test")
        assert inside.run(*git, *named, "commit", "-q", "-m", "noise", cwd=work).returncode == 0
        done = inside.run(*git, "push", "-q", "origin", "HEAD:main", cwd=work)
        assert done.returncode == 0, done.stderr
        # Without the helper it is not let in, since the page swaps and does not inject.
        assert inside.run("git", "ls-remote", url, GIT_TERMINAL_PROMPT="0").returncode != 0
    assert {asked.credential for asked in services.asked} == {"", BASIC}
    assert {each.credential for each in services.asked if each.fields.get("transfer-encoding")} == {BASIC}
    assert inside.refused == []
