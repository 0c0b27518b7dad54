"""The hosts that pip, uv, npm and apt are configured with, read from files of the machine's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from machines import bare_machine, put, with_pip

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


@pytest.mark.parametrize("tool", Tool)
def test_nothing_is_made_up_where_nothing_is_configured(tool: Tool, tmp_path: Path) -> None:
    """No host, no problem, and a reason."""
    found = find_tool_hosts(tool, bare_machine(tmp_path))
    assert (found.hosts, found.problems) == ((), ())
    assert found.why


# pip and uv


def test_built_in_default_of_the_installed_pip_counts_alone(tmp_path: Path) -> None:
    """The index and the host that it serves files from, out of pip's own source."""
    machine = with_pip(bare_machine(tmp_path))
    assert hosts(Tool.PIP, machine) == ["builtin.corp.example:443", "files.corp.example:443"]


@pytest.mark.parametrize(
    "source", ["", "PyPI = 7\n", "PyPI = PackageIndex()\n", "def (\n", "Other = PackageIndex('x')\n"]
)
def test_pip_of_another_shape_gives_no_default(source: str, tmp_path: Path) -> None:
    """Nothing found is an error that asks for the parameter, never a guess."""
    assert hosts(Tool.PIP, with_pip(bare_machine(tmp_path), source)) == []


def test_the_pip_beside_us_has_a_default() -> None:
    """The reader fits the pip that is really installed."""
    from egress.config.machine import this_machine

    machine = replace(this_machine(), env={"PIP_CONFIG_FILE": "/dev/null", "UV_NO_CONFIG": "1"})
    if machine.pip is None:
        return
    assert len(hosts(Tool.PIP, machine)) == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"etc/pip.conf": f"[global]\nindex-url = {ONE}\n"}, ["one.corp.example:443"]),
        ({"etc/xdg/pip/pip.conf": f"[global]\nindex-url = {ONE}\n"}, ["one.corp.example:443"]),
        ({"home/.pip/pip.conf": f"[global]\nindex_url: {ONE}\n"}, ["one.corp.example:443"]),
        ({"venv/pip.conf": f"[install]\nindex-url = {ONE}\n"}, ["one.corp.example:443"]),
        (
            {
                "etc/pip.conf": f"[global]\nindex-url = {ONE}\n",
                "home/.config/pip/pip.conf": f"[global]\nindex-url = {TWO}\n",
            },
            ["two.corp.example:8443"],
        ),
        (
            {"etc/pip.conf": f"[global]\nextra-index-url =\n    {ONE}\n    {TWO}\n"},
            ["one.corp.example:443", "two.corp.example:8443", "builtin.corp.example:443", "files.corp.example:443"],
        ),
        (
            {
                "etc/pip.conf": f"[global]\nindex-url = {ONE}\nfind-links = /wheels file:///wheels http://a.corp.example/w\n"
            },
            ["one.corp.example:443", "a.corp.example:80"],
        ),
        ({"etc/pip.conf": "[global]\nno-index = true\nfind-links = /wheels\n"}, []),
        (
            {"etc/pip.conf": "[global]\nindex-url = https://builtin.corp.example/simple\n"},
            ["builtin.corp.example:443", "files.corp.example:443"],
        ),
        ({"etc/pip.conf": "[global]\nindex-url = https://user:pass@one.corp.example/\n"}, ["one.corp.example:443"]),
        ({"home/.config/uv/uv.toml": f'index-url = "{ONE}"\n'}, ["one.corp.example:443"]),
        ({"etc/uv/uv.toml": f'[pip]\nindex-url = "{ONE}"\n'}, ["one.corp.example:443"]),
        (
            {"etc/uv/uv.toml": f'[[index]]\nname = "a"\nurl = "{ONE}"\ndefault = true\n[[index]]\nurl = "{TWO}"\n'},
            ["one.corp.example:443", "two.corp.example:8443"],
        ),
        (
            {"etc/uv/uv.toml": f'[[index]]\nurl = "{ONE}"\n'},
            ["one.corp.example:443", "builtin.corp.example:443", "files.corp.example:443"],
        ),
    ],
)
def test_pip_and_uv_files_are_read_as_the_tools_read_them(
    files: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    """The nearest file wins; extra indexes come beside the default."""
    paths = [put(tmp_path, name, text) for name, text in files.items()]
    machine = with_pip(bare_machine(tmp_path))
    assert hosts(Tool.PIP, machine) == expected
    assert set(paths) <= set(find_tool_hosts(Tool.PIP, machine).files)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"PIP_INDEX_URL": ONE}, ["one.corp.example:443"]),
        ({"PIP_INDEX_URL": ONE, "PIP_EXTRA_INDEX_URL": TWO}, ["one.corp.example:443", "two.corp.example:8443"]),
        ({"PIP_NO_INDEX": "1"}, []),
        ({"PIP_CONFIG_FILE": "/dev/null"}, ["builtin.corp.example:443", "files.corp.example:443"]),
        ({"UV_DEFAULT_INDEX": f"corp={ONE}"}, ["file.corp.example:443", "one.corp.example:443"]),
        (
            {"UV_INDEX": f"{ONE} other={TWO}"},
            ["file.corp.example:443", "one.corp.example:443", "two.corp.example:8443"],
        ),
    ],
)
def test_variables_win_over_files(env: dict[str, str], expected: list[str], tmp_path: Path) -> None:
    """As they do for the tools."""
    put(tmp_path, "etc/pip.conf", "[global]\nindex-url = https://file.corp.example/simple\n")
    assert hosts(Tool.PIP, with_pip(bare_machine(tmp_path, **env))) == expected


def test_file_that_a_variable_names_takes_the_users_place(tmp_path: Path) -> None:
    """For pip, which leaves the user's file aside then."""
    put(tmp_path, "home/.config/pip/pip.conf", f"[global]\nextra-index-url = {TWO}\n")
    named = put(tmp_path, "named.conf", f"[global]\nindex-url = {ONE}\n")
    assert hosts(Tool.PIP, bare_machine(tmp_path, PIP_CONFIG_FILE=str(named))) == ["one.corp.example:443"]


@pytest.mark.parametrize("variable", ["PIP_CONFIG_FILE", "UV_CONFIG_FILE"])
def test_file_of_the_working_folder_is_refused(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is often the sandbox's, and such a file would open hosts of its choice."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "mine", f"[global]\nindex-url = {ONE}\n")
    found = wrong(Tool.PIP, bare_machine(tmp_path, **{variable: "mine"}))
    assert found.hosts == ()
    assert "working folder" in found.problems[0].message


def test_configuration_of_a_project_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is the sandbox's."""
    project = tmp_path / "project"
    put(project, "uv.toml", f'index-url = "{ONE}"\n')
    put(project, "pyproject.toml", f'[tool.uv]\nindex-url = "{ONE}"\n')
    put(project, "pip.conf", f"[global]\nindex-url = {ONE}\n")
    put(project, ".npmrc", f"registry={ONE}\n")
    monkeypatch.chdir(project)
    assert hosts(Tool.PIP, bare_machine(tmp_path)) == []
    assert hosts(Tool.NPM, bare_machine(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/pip.conf", "index-url = https://user:hunter2@one.corp.example/\n"),
        ("etc/pip.conf", "[global]\nindex-url = https://user:hunter2@one.corp.example:port/\n"),
        ("etc/pip.conf", "[global]\nindex-url = https://user:hunter2@127.1/\n"),
        ("etc/pip.conf", "[global]\nindex-url = https://user:hunter2@[::1]/\n"),
        ("etc/pip.conf", "[global]\nindex-url = https://user:hunter2@/\n"),
        ("etc/uv/uv.toml", 'index-url = "https://user:hunter2@one.corp.example\n'),
        ("home/.npmrc", "registry=https://user:hunter2@a b.corp.example/\n"),
        ("home/.npmrc", "registry=https://user:hunter2@${UNSET}/\n"),
    ],
)
def test_broken_configuration_is_told_and_never_quoted(name: str, text: str, tmp_path: Path) -> None:
    """An address may hold a password."""
    path = put(tmp_path, name, text)
    found = wrong(Tool.NPM if "npm" in name else Tool.PIP, bare_machine(tmp_path))
    assert found.hosts == ()
    assert found.problems[0].file == str(path)
    assert "hunter2" not in "".join(str(problem) for problem in found.problems)


@pytest.mark.parametrize(
    ("tool", "name", "text"),
    [
        (Tool.PIP, "etc/pip.conf", f"[global]\nindex-url = {ONE}\n"),
        (Tool.NPM, "home/.npmrc", f"registry={ONE}\n"),
        (Tool.APT_DEBIAN, "etc/apt/sources.list", "deb http://a.corp.example/debian stable main\n"),
    ],
)
def test_configuration_that_every_user_can_change_is_refused(tool: Tool, name: str, text: str, tmp_path: Path) -> None:
    """What decides where the sandbox may go is out of its reach."""
    put(tmp_path, "etc/os-release", "ID=debian\n")
    put(tmp_path, name, text).chmod(0o666)
    found = wrong(tool, bare_machine(tmp_path))
    assert found.hosts == ()
    assert found.problems[0].message == "every user of this machine can change this file"
