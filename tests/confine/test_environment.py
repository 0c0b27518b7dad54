"""The child environment: every client finds proxy and CA, and no shell reads more into a value than is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.confine.environment import VARIABLES, Shell, child_environment, set_text, unset_text

PROXY = "http://127.0.0.1:3128"
BUNDLE = Path("/state/ca/bundle.pem")
CA = Path("/state/ca/ca.pem")

WANTED = [
    # where the proxy is
    ("HTTP_PROXY", PROXY),
    ("http_proxy", PROXY),
    ("HTTPS_PROXY", PROXY),
    ("https_proxy", PROXY),
    ("ALL_PROXY", PROXY),
    ("all_proxy", PROXY),
    ("npm_config_proxy", PROXY),
    ("npm_config_https_proxy", PROXY),
    # no way around it
    ("NO_PROXY", ""),
    ("no_proxy", ""),
    # clients whose roots are replaced
    ("SSL_CERT_FILE", str(BUNDLE)),
    ("REQUESTS_CA_BUNDLE", str(BUNDLE)),
    ("CURL_CA_BUNDLE", str(BUNDLE)),
    ("GIT_SSL_CAINFO", str(BUNDLE)),
    ("PIP_CERT", str(BUNDLE)),
    ("CARGO_HTTP_CAINFO", str(BUNDLE)),
    ("AWS_CA_BUNDLE", str(BUNDLE)),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(BUNDLE)),
    ("HTTPLIB2_CA_CERTS", str(BUNDLE)),
    ("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", str(BUNDLE)),
    ("npm_config_cafile", str(BUNDLE)),
    # clients that add to theirs
    ("NODE_EXTRA_CA_CERTS", str(CA)),
    ("DENO_CERT", str(CA)),
    # switches
    ("NODE_USE_ENV_PROXY", "1"),
]


def test_each_client_finds_its_variable() -> None:
    """The table is the whole of it: a bundle for who replaces roots, the CA alone for who adds."""
    assert dict(child_environment(PROXY, BUNDLE, CA)) == dict(WANTED)
    assert set(VARIABLES) == {name for name, _ in WANTED}


def test_exceptions_are_only_those_asked_for() -> None:
    """An inherited NO_PROXY is overridden, by nothing or by the hosts named."""
    variables = child_environment(PROXY, BUNDLE, CA, no_proxy=["localhost", "127.0.0.1"])
    assert variables["NO_PROXY"] == variables["no_proxy"] == "localhost,127.0.0.1"


def test_the_guide_names_every_variable() -> None:
    """docs/guides/clients.md says of each who reads it."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "clients.md").read_text()
    missing = [name for name in VARIABLES if f"`{name}`" not in guide]
    assert not missing


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


def test_unset_removes_what_was_set() -> None:
    """After both, the shell's environment is as before."""
    text = set_text(child_environment(PROXY, BUNDLE, CA), Shell.SH) + unset_text(VARIABLES, Shell.SH)
    before, after = (
        subprocess.run(["sh", "-c", f"{part}env"], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
        for part in ("", text + "\n")
    )
    assert sorted(before.stdout.split()) == sorted(after.stdout.split())


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


@pytest.mark.parametrize(("shell", "text"), REMOVED)
def test_each_format_removes_in_its_own_way(shell: Shell, text: str) -> None:
    """What `--unset` prints, for each format."""
    assert unset_text(["X", "Y"], shell) == text


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


def test_json_is_read_back_by_json() -> None:
    """The format for programs."""
    variables = child_environment(PROXY, BUNDLE, CA)
    assert json.loads(set_text(variables, Shell.JSON)) == dict(variables)
