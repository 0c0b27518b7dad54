"""git by its recipe: clone, fetch and push with nothing in the sandbox, from a server that lets nobody else in."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from rig.proxy import port_of
from rig.recipes import policies, sandbox
from rig.services import Answer, Services, bare_repository, behind, repositories, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.recipes import Sandbox

pytestmark = pytest.mark.e2e

TOKEN = "glpat-or-ghp-0123456789-real"
GITHUB, GITLAB, AZURE = policies("git.md")
IDENTITY = {"GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@x.test", "GIT_COMMITTER_NAME": "T"}
IDENTITY |= {"GIT_COMMITTER_EMAIL": "t@x.test"}


@dataclass(frozen=True)
class Form:
    """How a service is addressed: `user` in the URL, as some copy it, and `secret` as the page calls it."""

    policy: str
    secret: str
    host: str
    path: str
    basic: str
    user: str = ""

    @property
    def credential(self) -> str:
        """What the server wants to see."""
        return "Basic " + base64.b64encode(f"{self.basic}:{TOKEN}".encode()).decode()


FORMS = {
    "github": Form(GITHUB, "github", "github.com", "acme/app.git", "x-access-token"),
    "gitlab": Form(GITLAB, "gitlab", "gitlab.com", "acme/team/app.git", "oauth2"),
    "azure": Form(AZURE, "devops", "dev.azure.com", "acme/shop/_git/app", "", user="acme@"),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def git(inside: Sandbox, *words: str, cwd: Path | None = None, **more: str) -> str:
    """Run git; it must succeed. A question to a user is an error, and nobody is there to answer."""
    done = inside.run("git", *words, cwd=cwd, **IDENTITY, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@each_form
def test_git_clones_pushes_and_fetches_without_a_credential(
    form: Form, start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """The push is several megabytes: chunked, with `Expect: 100-continue`. Each request carries the credential."""
    bare_repository(tmp_path / "served", form.path)
    served = Services({form.host: behind(repositories(tmp_path / "served"), form.credential)})
    port = port_of(origin)
    inside = sandbox(start, tmp_path / "home", form.policy, port, {form.secret: TOKEN})
    url = f"https://{form.user}{form.host}:{port}/{form.path}"
    with origin.behaving(served.behave):
        git(inside, "clone", "-q", url, "work")
        work = inside.home / "work"
        work.joinpath("noise.bin").write_bytes(os.urandom(3 << 20))
        git(inside, "checkout", "-q", "-b", "main", cwd=work)
        git(inside, "add", ".", cwd=work)
        git(inside, "commit", "-q", "-m", "noise", cwd=work)
        git(inside, "-c", "http.postBuffer=1048576", "push", "-q", "origin", "main", cwd=work)
        git(inside, "clone", "-q", "--depth", "1", url, "again")
        git(inside, "fetch", "-q", "--unshallow", cwd=inside.home / "again")
    assert (inside.home / "again/noise.bin").read_bytes() == work.joinpath("noise.bin").read_bytes()
    assert {asked.credential for asked in served.asked} == {form.credential}
    assert any(asked.fields.get("transfer-encoding") for asked in served.asked)
    assert inside.refused == []
    assert TOKEN not in repr(inside.proxy.ledger.events)


def test_a_server_that_compresses_what_it_sends_is_read(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """Though nobody asked it to; git gets its packs decoded."""
    form = FORMS["github"]
    bare_repository(tmp_path / "served", form.path)
    served = Services({form.host: zipped(behind(repositories(tmp_path / "served"), form.credential))})
    inside = sandbox(start, tmp_path / "home", form.policy, port_of(origin), {form.secret: TOKEN})
    url = f"https://{form.host}:{port_of(origin)}/{form.path}"
    with origin.behaving(served.behave):
        git(inside, "clone", "-q", url, "work")
        work = inside.home / "work"
        work.joinpath("file").write_text("canary")
        git(inside, "checkout", "-q", "-b", "main", cwd=work)
        git(inside, "add", ".", cwd=work)
        git(inside, "commit", "-q", "-m", "file", cwd=work)
        git(inside, "push", "-q", "origin", "main", cwd=work)
        git(inside, "clone", "-q", url, "again")
    assert (inside.home / "again/file").read_text() == "canary"
    assert inside.refused == []


def test_a_token_of_the_sandboxs_own_does_not_go_up(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """Whatever a helper, the URL or a header of its configuration says, the server sees the proxy's credential."""
    form = FORMS["github"]
    bare_repository(tmp_path / "served", form.path)
    served = Services({form.host: behind(repositories(tmp_path / "served"), form.credential)})
    port = port_of(origin)
    inside = sandbox(start, tmp_path / "home", form.policy, port, {form.secret: TOKEN})
    own = base64.b64encode(b"thief:own-token").decode()
    with origin.behaving(served.behave):
        url = f"https://thief:own-token@{form.host}:{port}/{form.path}"
        git(inside, "-c", f"http.extraHeader=Authorization: Basic {own}", "ls-remote", url)
    assert {asked.credential for asked in served.asked} == {form.credential}


def test_a_push_to_another_repository_is_refused(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """It may be cloned; git shows the reason of the refusal."""
    form = FORMS["github"]
    bare_repository(tmp_path / "served", "acme/other.git")
    served = Services({form.host: behind(repositories(tmp_path / "served"), form.credential)})
    port = port_of(origin)
    inside = sandbox(start, tmp_path / "home", form.policy, port, {form.secret: TOKEN})
    with origin.behaving(served.behave):
        git(inside, "clone", "-q", f"https://{form.host}:{port}/acme/other.git", "work")
        work = inside.home / "work"
        git(inside, "commit", "-q", "--allow-empty", "-m", "x", cwd=work)
        done = inside.run("git", "push", "origin", "HEAD:main", cwd=work)
    assert done.returncode != 0
    assert "403" in done.stderr
    assert set(inside.refused) == {"path-not-allowed"}


def test_a_credential_does_not_follow_a_redirect(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """Another host gets the request without it, even where a rule lets the request go there."""
    form = FORMS["github"]
    port = port_of(origin)
    elsewhere = f"https://elsewhere.test:{port}/acme/app.git/info/refs?service=git-upload-pack"
    hosts = {
        form.host: lambda _: Answer(302, b"", {"Location": elsewhere}),
        "elsewhere.test": behind(repositories(tmp_path), "nobody's"),
    }
    served = Services(hosts)
    open_too = form.policy.replace("allow: github.com", "allow: [github.com, elsewhere.test]")
    inside = sandbox(start, tmp_path / "home", open_too, port, {form.secret: TOKEN})
    with origin.behaving(served.behave):
        done = inside.run(
            "git", "ls-remote", f"https://{form.host}:{port}/{form.path}", GIT_TERMINAL_PROMPT="0", **IDENTITY
        )
    assert done.returncode != 0
    assert {asked.credential for asked in served.to(form.host)} == {form.credential}
    assert {asked.credential for asked in served.to("elsewhere.test")} == {""}
