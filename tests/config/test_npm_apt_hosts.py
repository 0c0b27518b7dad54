"""The hosts that npm and apt are configured with, read from files of the machine's own, and what npm itself says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from machines import bare_machine, put

from egress.config.tool_hosts import Tool, ToolHosts, find_tool_hosts

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config import Machine

ONE = "https://one.corp.example/simple"
TWO = "https://two.corp.example:8443/simple"


def hosts(tool: Tool, machine: Machine) -> list[str]:
    """What is found, without any problem."""
    found = find_tool_hosts(tool, machine)
    assert found.problems == ()
    return list(found.hosts)


def wrong(tool: Tool, machine: Machine) -> ToolHosts:
    """What is found, with problems."""
    found = find_tool_hosts(tool, machine)
    assert found.problems
    return found


@pytest.mark.parametrize(
    ("files", "env", "expected"),
    [
        ({"home/.npmrc": f"registry={ONE}\n"}, {}, ["one.corp.example:443"]),
        (
            {"home/.npmrc": f'; x\nregistry = "{ONE}"\n@acme:registry={TWO}\n'},
            {},
            ["one.corp.example:443", "two.corp.example:8443"],
        ),
        ({"etc/npmrc": f"registry={TWO}\n", "home/.npmrc": f"registry={ONE}\n"}, {}, ["one.corp.example:443"]),
        ({"home/.npmrc": f"registry={ONE}\n"}, {"NPM_CONFIG_REGISTRY": TWO}, ["two.corp.example:8443"]),
        ({"home/.npmrc": "registry=https://${MIRROR}/\n"}, {"MIRROR": "one.corp.example"}, ["one.corp.example:443"]),
        ({"home/.npmrc": f"registry={ONE}\n//two.corp.example/:_authToken=x\n"}, {}, ["one.corp.example:443"]),
        ({"home/.npmrc": f"# registry={ONE}\n"}, {}, []),
    ],
)
def test_npmrc_files_and_variables(
    files: dict[str, str], env: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    """The user's file wins over the machine's, a variable over both; scoped registries count too."""
    for name, text in files.items():
        put(tmp_path, name, text)
    assert hosts(Tool.NPM, bare_machine(tmp_path, **env)) == expected


def fake_npm(folder: Path, script: str) -> str:
    """A program `npm`; gives the folder for PATH."""
    path = put(folder, "bin/npm", "#!/bin/sh\n" + script)
    path.chmod(0o755)
    return str(path.parent)


def test_npm_is_asked_where_no_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own words, from the top folder, and without the secrets of our environment."""
    monkeypatch.chdir(tmp_path)
    script = 'env > "$HOME/seen"; pwd >> "$HOME/seen"; echo "$@" >> "$HOME/seen"\necho https://asked.corp.example/\n'
    (tmp_path / "home").mkdir()
    machine = bare_machine(tmp_path, PATH=fake_npm(tmp_path, script) + ":/usr/bin:/bin", GITHUB_TOKEN="hunter2")
    machine = replace(machine, root=tmp_path / "root")
    (tmp_path / "root").mkdir()
    assert hosts(Tool.NPM, machine) == ["asked.corp.example:443"]
    seen = (tmp_path / "home" / "seen").read_text()
    assert "hunter2" not in seen
    assert f"\n{tmp_path}/root\nconfig get registry\n" in seen


def test_npm_is_not_asked_where_a_file_says(tmp_path: Path) -> None:
    """Starting it costs, and tells nothing more."""
    put(tmp_path, "home/.npmrc", f"registry={ONE}\n")
    machine = bare_machine(tmp_path, PATH=fake_npm(tmp_path, "echo https://asked.corp.example/\n"))
    assert hosts(Tool.NPM, machine) == ["one.corp.example:443"]


@pytest.mark.parametrize("script", ["exit 1\n", "exec sleep 30\n"])
def test_npm_that_fails_or_hangs_is_an_error(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given a few seconds, and no host is guessed."""
    monkeypatch.setattr("egress.config.npm_hosts.NPM_SECONDS", 0.3)
    machine = bare_machine(tmp_path, PATH=fake_npm(tmp_path, script) + ":/usr/bin:/bin")
    assert wrong(Tool.NPM, machine).hosts == ()


@pytest.mark.parametrize("answer", ["undefined", "null", ""])
def test_npm_that_knows_no_registry_gives_none(answer: str, tmp_path: Path) -> None:
    """As npm says it."""
    assert hosts(Tool.NPM, bare_machine(tmp_path, PATH=fake_npm(tmp_path, f"echo {answer}\n"))) == []


# apt

LIST = """\
# deb http://commented.corp.example/debian stable main
deb http://a.corp.example/debian stable main
deb-src [arch=amd64 signed-by=/x.gpg] https://b.corp.example/debian stable main
deb cdrom:[Debian]/ stable main
deb mirror+https://m.corp.example/list stable main
deb file:/srv/packages stable main
"""
SOURCES = """\
# A comment
Types: deb
URIs: http://c.corp.example/debian
  https://d.corp.example:8443/debian
Suites: stable
Components: main

Types: deb
Enabled: no
URIs: http://off.corp.example/debian
Suites: stable
"""


def test_apt_sources_in_both_forms(tmp_path: Path) -> None:
    """One line each, and stanzas; what is commented out or switched off does not count."""
    put(tmp_path, "etc/os-release", 'ID="debian"\n')
    put(tmp_path, "etc/apt/sources.list", LIST)
    put(tmp_path, "etc/apt/sources.list.d/more.sources", SOURCES)
    put(tmp_path, "etc/apt/sources.list.d/ignored.bak", "deb http://ignored.corp.example/debian stable main\n")
    assert hosts(Tool.APT_DEBIAN, bare_machine(tmp_path)) == [
        "a.corp.example:80",
        "b.corp.example:443",
        "m.corp.example:443",
        "c.corp.example:80",
        "d.corp.example:8443",
    ]


@pytest.mark.parametrize(
    ("release", "theirs"),
    [
        ("ID=debian\n", [Tool.APT_DEBIAN]),
        ("ID=ubuntu\nID_LIKE=debian\n", [Tool.APT_UBUNTU]),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', [Tool.APT_DEBIAN, Tool.APT_UBUNTU]),
        ("ID=raspbian\nID_LIKE=debian\n", [Tool.APT_DEBIAN]),
        ("ID=fedora\n", []),
    ],
)
def test_apt_tells_of_its_own_distribution_only(release: str, theirs: list[Tool], tmp_path: Path) -> None:
    """The hosts of an Ubuntu machine are not what a Debian sandbox needs."""
    put(tmp_path, "etc/os-release", release)
    put(tmp_path, "etc/apt/sources.list", LIST)
    machine = bare_machine(tmp_path)
    assert [tool for tool in (Tool.APT_DEBIAN, Tool.APT_UBUNTU) if hosts(tool, machine)] == theirs
