"""The Dockerfile, read as data: stages, pins, user, health check, entry point, and what it copies."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its continuation lines joined; `stage` counts from 0."""

    stage: int
    word: str
    text: str


def instructions() -> list[Instruction]:
    """Read the Dockerfile into instructions."""
    kept = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(kept))
    found: list[Instruction] = []
    stage = -1
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, text = line.split(None, 1)
        stage += word == "FROM"
        found.append(Instruction(stage, word, text))
    return found


ALL = instructions()
LAST = max(one.stage for one in ALL)


def final(word: str) -> list[str]:
    """Give the texts of one instruction in the stage that becomes the image."""
    return [one.text for one in ALL if one.stage == LAST and one.word == word]


def common(word: str) -> list[str]:
    """Give the texts of one instruction in the stage that all images begin with."""
    return [one.text for one in ALL if one.stage == 1 and one.word == word]


def test_each_stage_starts_from_a_base_pinned_by_version_and_name() -> None:
    """No stage floats: the tag names Python's minor version and the distribution, and is one variable for all.

    Whoever builds may put a digest in its place. Every other stage begins with one of these.
    """
    bases = [one.text.split() for one in ALL if one.word == "FROM"]
    assert [(base[0], base[-1]) for base in bases] == [
        ("${BASE}", "build"),
        ("${BASE}", "base"),
        ("base", "gateway"),
        ("base", "proxy"),
    ]
    (default,) = [one.text for one in ALL if one.word == "ARG"]
    pinned = (ROOT / ".python-version").read_text().strip()
    assert re.fullmatch(rf"BASE=python:{re.escape(pinned)}-slim-(bookworm|trixie)", default)


def test_only_the_stage_of_the_gateway_adds_a_package_of_the_distribution() -> None:
    """The proxy's image has no firewall tools, no compiler and nothing else beside Python and the environment."""
    stages = {one.stage for one in ALL if "apt-get" in one.text}
    assert stages == {2}
    assert final("RUN") == []
    copied = [one for one in ALL if one.word == "COPY" and one.stage > 0]
    assert [one.text for one in copied] == ["--from=build /opt/egress /opt/egress"]


def test_the_image_writes_nothing_but_its_state() -> None:
    """It runs with a root file system that is read-only: no bytecode is written, and state has its folder."""
    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(common("ENV"))
    assert "/var/lib/egress" in common("WORKDIR")


def test_the_image_runs_as_a_user_of_its_own() -> None:
    """The last USER is a fixed unprivileged one, set after every step that needs root."""
    assert final("USER") == ["3128:3128"]
    assert "--gid 3128" in " ".join(common("RUN"))
    assert "--uid 3128" in " ".join(common("RUN"))


def test_the_entry_point_is_egress_run() -> None:
    """Arguments of `docker run` are arguments of `egress run`; both forms are exec forms, so signals arrive."""
    assert json.loads(final("ENTRYPOINT")[0]) == ["egress", "run"]
    assert "--policy" in json.loads(final("CMD")[0])


def test_the_health_check_asks_the_proxy_in_exec_form() -> None:
    """The check runs no shell, and finds the proxy by the state folder that the image names."""
    options, _, command = final("HEALTHCHECK")[0].partition("CMD ")
    assert "--timeout" in options
    assert json.loads(command) == ["/opt/egress/bin/egress", "status", "--ready"]
    assert "EGRESS_STATE_DIR=/var/lib/egress" in " ".join(common("ENV"))
    assert final("EXPOSE") == [json.loads(final("CMD")[0])[-1].rpartition(":")[2]]


def test_state_is_a_volume_owned_by_the_user() -> None:
    """CA and audit outlive the container, in the folder that the proxy takes as its state folder."""
    assert final("VOLUME") == ["/var/lib/egress"]
    assert "EGRESS_STATE_DIR=/var/lib/egress" in " ".join(common("ENV"))
    assert "--owner egress --group egress --mode 0700 /var/lib/egress" in " ".join(common("RUN"))


def test_every_install_is_held_to_hashes_or_to_no_index() -> None:
    """No step of the build takes a package that the locks do not name."""
    runs = " && ".join(one.text for one in ALL if one.word == "RUN")
    steps = [step for step in runs.split("&&") if " pip install" in step or " pip wheel" in step]
    assert len(steps) == 4
    for step in steps:
        assert "--no-deps" in step
        assert "--no-index" in step or ("--require-hashes" in step and "--only-binary :all:" in step)


def test_every_copied_source_exists_and_is_not_ignored() -> None:
    """What the build copies is in the checkout and let through by .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = [line[1:] for line in lines if line.startswith("!")]
    sources = [
        source
        for one in ALL
        if one.word == "COPY" and not one.text.startswith("--from")
        for source in one.text.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in let_through), source


def test_the_shipped_policies_are_part_of_the_package() -> None:
    """The link that puts policies/ inside the package survives, since the wheel takes them by it."""
    link = ROOT / "egress" / "config" / "shipped"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "policies"
