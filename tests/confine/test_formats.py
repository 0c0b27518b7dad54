"""How variables are written down: what reads a format gets the value, and reads no more into it than is there."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path, PurePath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from egress.confine.formats import Shell, config_map, mount, set_text, unset_text

NASTY = [
    "",
    "plain",
    "with space",
    "it's",
    "''",
    'double " quote',
    "$HOME $(touch /tmp/never) `id`",
    "a;b&c|d>e<f",
    "back\\slash\\",
    "\\'",
    "new\nline",
    "tab\there",
    "*?[a]{b,c}~#!%^",
    "-n",
    "caf\u00e9 \u2018typographic\u2019",
]


def read_back(shell: str, text: str, name: str) -> str:
    """Evaluate `text` in a real shell and ask a child process for the variable."""
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [shell, "-c", f"{text}\nprintenv {name}"], env=env, capture_output=True, check=True, timeout=20
    )
    assert done.stderr == b""
    return done.stdout.decode().removesuffix("\n")


SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", NASTY)
def test_a_shell_reads_back_what_was_written(shell: str, value: str) -> None:
    """Quoting holds in the real shell, and nothing in a value runs."""
    assert read_back(shell, set_text({"BUNDLE": value, "AFTER": "x"}, Shell.SH), "BUNDLE") == value


@settings(max_examples=30, deadline=None)
@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_any_text_survives_the_shell(value: str) -> None:
    """The law behind the table."""
    assert read_back("sh", set_text({"BUNDLE": value}, Shell.SH), "BUNDLE") == value


WRITTEN = [
    (Shell.SH, "a'b", "export X='a'\"'\"'b'\n"),
    (Shell.SH, "plain", "export X=plain\n"),
    (Shell.FISH, "a'b\\c $d", "set -gx X 'a\\'b\\\\c $d'\n"),
    (Shell.POWERSHELL, "a'b $c `d", "$Env:X = 'a''b $c `d'\n"),
    (Shell.POWERSHELL, "a\u2019b", "$Env:X = 'a\u2019\u2019b'\n"),
    (Shell.JSON, 'a"b', '{\n  "X": "a\\"b"\n}\n'),
    (Shell.DOTENV, "http://127.0.0.1:3128", "X=http://127.0.0.1:3128\n"),
    (Shell.DOTENV, "", "X=\n"),
    (Shell.DOTENV, 'a b"c$d`e\\f', 'X="a b\\"c\\$d\\`e\\\\f"\n'),
]


@pytest.mark.parametrize(("shell", "value", "text"), WRITTEN)
def test_each_format_quotes_in_its_own_way(shell: Shell, value: str, text: str) -> None:
    """Shells that are not installed here are held to their manuals' rules for quotes."""
    assert set_text({"X": value}, shell) == text


REMOVED = [
    (Shell.SH, "unset X\nunset Y\n"),
    (Shell.FISH, "set -e X\nset -e Y\n"),
    (
        Shell.POWERSHELL,
        "Remove-Item -ErrorAction SilentlyContinue Env:X\nRemove-Item -ErrorAction SilentlyContinue Env:Y\n",
    ),
    (Shell.JSON, '{\n  "X": null,\n  "Y": null\n}\n'),
    (Shell.DOTENV, "X=\nY=\n"),
]
CONTAINERS = [Shell.DOCKER, Shell.ENV_FILE, Shell.K8S, Shell.K8S_ENV]


@pytest.mark.parametrize(("shell", "text"), REMOVED)
def test_each_format_removes_in_its_own_way(shell: Shell, text: str) -> None:
    """What `--unset` prints, for each format."""
    assert unset_text(["X", "Y"], shell) == text


@pytest.mark.parametrize("shell", CONTAINERS)
def test_a_container_has_nothing_to_unset(shell: Shell) -> None:
    """It is started without."""
    with pytest.raises(ValueError, match="nothing to unset"):
        unset_text(["X"], shell)


@pytest.mark.parametrize("shell", Shell)
def test_a_nul_fits_no_format(shell: Shell) -> None:
    """No environment can hold one."""
    with pytest.raises(ValueError, match="NUL"):
        set_text({"X": "a\0b"}, shell)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x1bb"])
def test_dotenv_takes_no_line_break(value: str) -> None:
    """Half the readers of .env files would take the second line for another variable."""
    with pytest.raises(ValueError, match="dotenv"):
        set_text({"X": value}, Shell.DOTENV)


@pytest.mark.parametrize("value", NASTY)
def test_json_is_read_back_by_json(value: str) -> None:
    """The format for programs."""
    assert json.loads(set_text({"X": value, "Y": "y"}, Shell.JSON)) == {"X": value, "Y": "y"}


# As `eval docker run "$(egress env --docker)" IMAGE` does.
EVALUATED = """eval printf '"%s\\0"' "$1" """


@pytest.mark.parametrize("value", NASTY)
def test_docker_gets_each_option_as_one_word(value: str) -> None:
    """As a shell splits them, in one line but for what the value itself breaks."""
    text = set_text({"X": value, "Y": "y"}, Shell.DOCKER)
    done = subprocess.run(["sh", "-c", EVALUATED, "sh", text], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == ["--env", f"X={value}", "--env", "Y=y"]


@pytest.mark.parametrize("value", [value for value in NASTY if value.isprintable()])
def test_an_env_file_holds_the_bare_value(value: str) -> None:
    """Docker splits at the first `=` and takes the rest as it is."""
    (line, after) = set_text({"X": value, "Y": "y"}, Shell.ENV_FILE).splitlines()
    assert line.partition("=") == ("X", "=", value)
    assert after == "Y=y"


@pytest.mark.parametrize("value", ["a\nb", "a\rb"])
def test_an_env_file_takes_no_line_break(value: str) -> None:
    """The second line would be another variable."""
    with pytest.raises(ValueError, match="env-file"):
        set_text({"X": value}, Shell.ENV_FILE)


YAML_NASTY = [*NASTY, "yes", "0755", "- a: b", "{}", "\u2028\x85\x7f\ufeff", "\U0001f600", "$(X) $$(Y) $(", "#"]


def parsed(text: str) -> list[Any]:
    """The documents that a YAML parser finds."""
    return list(YAML(typ="safe", pure=True).load_all(text))


@pytest.mark.parametrize("value", YAML_NASTY)
def test_a_config_map_is_read_back_by_yaml(value: str) -> None:
    """Every value a string, whatever it looks like; what is no text in base64."""
    (read,) = parsed(set_text({"X": value, "NO": "y"}, Shell.K8S))
    assert (read["apiVersion"], read["kind"], read["metadata"]) == ("v1", "ConfigMap", {"name": "egress-environment"})
    assert read["data"] == {"X": value, "NO": "y"}
    (read,) = parsed(config_map("files", {"a.pem": b"text\n", "b.p12": b"\xff\0"}))
    assert read["data"] == {"a.pem": "text\n"}
    assert base64.b64decode(read["binaryData"]["b.p12"]) == b"\xff\0"


def expanded(value: str) -> str:
    """As Kubernetes reads `env`: `$(NAME)` of a variable that there is, `$$` for a dollar sign."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda found: "$" if found[0] == "$$" else "replaced", value)


@pytest.mark.parametrize("value", YAML_NASTY)
def test_a_list_of_variables_is_read_back_and_nothing_in_it_is_replaced(value: str) -> None:
    """For `env:` of a container."""
    (read,) = parsed(set_text({"X": value, "NO": "y"}, Shell.K8S_ENV))
    names = [own["name"] for own in read["env"]]
    assert names == ["X", "NO"]
    assert expanded(read["env"][0]["value"]) == value


@pytest.mark.parametrize("folder", ["/srv/trust", "/a b", "/it's", "/a,b", '/a"b,c'])
def test_a_mount_is_one_word_of_fields(folder: str) -> None:
    """Docker reads the option's value as a row of CSV."""
    option, value = shlex.split(mount(Path(folder), PurePath("/etc/egress")))
    assert option == "--mount"
    (fields,) = csv.reader([value])
    assert fields == ["type=bind", f"source={folder}", "target=/etc/egress", "readonly"]
