"""The child environment: every client finds proxy and CA, and none is left an exception that it inherited."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path, PurePath

import pytest

from egress.confine.client_files import ClientFiles, configurations
from egress.confine.environment import VARIABLES, child_environment, java_options, redirected_environment
from egress.confine.formats import Shell, set_text, unset_text

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
    ("PIP_PROXY", PROXY),
    ("CARGO_HTTP_PROXY", PROXY),
    ("grpc_proxy", PROXY),
    ("YARN_HTTP_PROXY", PROXY),
    ("YARN_HTTPS_PROXY", PROXY),
    # no way around it
    ("NO_PROXY", ""),
    ("no_proxy", ""),
    ("no_grpc_proxy", ""),
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
    ("NIX_SSL_CERT_FILE", str(BUNDLE)),
    ("CONDA_SSL_VERIFY", str(BUNDLE)),
    # clients that add to theirs
    ("NODE_EXTRA_CA_CERTS", str(CA)),
    ("DENO_CERT", str(CA)),
    # switches
    ("NODE_USE_ENV_PROXY", "1"),
]
JAVA = (
    "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128 "
    "-Dhttp.nonProxyHosts= -Djavax.net.ssl.trustStore=/state/clients/java-trust.p12 "
    "-Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit"
)
# For clients that read files of ours.
OF_FILES = [
    ("APT_CONFIG", "/state/clients/apt.conf"),
    ("WGETRC", "/state/clients/wgetrc"),
    ("PHP_INI_SCAN_DIR", ":/state/clients"),
    ("JAVA_TOOL_OPTIONS", JAVA),
]
FILES = ClientFiles.at(PurePath("/state/clients"))


def test_each_client_finds_its_variable() -> None:
    """The table is the whole of it: a bundle for who replaces roots, the CA alone for who adds."""
    assert dict(child_environment(PROXY, BUNDLE, CA)) == dict(WANTED)
    assert dict(child_environment(PROXY, BUNDLE, CA, files=FILES)) == dict([*WANTED, *OF_FILES])
    assert set(VARIABLES) == {name for name, _ in [*WANTED, *OF_FILES]}


def test_who_is_redirected_is_told_of_no_proxy() -> None:
    """Trust alone, the same as for others; also in the files that apt, wget, PHP and Java read."""
    told = redirected_environment(BUNDLE, CA, FILES)
    everything = child_environment(PROXY, BUNDLE, CA, files=FILES)
    assert not [name for name, value in told.items() if "proxy" in f"{name}{value}".lower()]
    without = {name for name in everything if "proxy" not in name.lower()} - {"NODE_USE_ENV_PROXY"}
    assert set(told) == without
    assert all(told[name] == everything[name] for name in without - {"JAVA_TOOL_OPTIONS"})
    assert told["JAVA_TOOL_OPTIONS"] == JAVA[JAVA.index("-Djavax") :]
    made, usual = configurations(None, BUNDLE), configurations(PROXY, BUNDLE)
    assert (made["apt.conf"], made["wgetrc"]) == (
        f'Acquire::https::CaInfo "{BUNDLE}";\n'.encode(),
        f"use_proxy = off\nca_certificate = {BUNDLE}\n".encode(),
    )
    assert made["egress.ini"] == usual["egress.ini"]


# HTTP to a proxy is all that these can speak.
NEVER_SOCKS = {"grpc_proxy", "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY", "JAVA_TOOL_OPTIONS"}


def test_socks_goes_to_who_speaks_it() -> None:
    """`socks5h`, so that the proxy is told names; everything else is as it was, but that Node is told of no proxy."""
    plain = child_environment(PROXY, BUNDLE, CA, files=FILES)
    socks = child_environment(PROXY, BUNDLE, CA, files=FILES, socks_url="socks5h://127.0.0.1:3128")
    # Told to use a proxy for SOCKS, it would start no program at all.
    assert socks["NODE_USE_ENV_PROXY"] == "0"
    changed = {name for name in plain if plain[name] != socks[name]} - {"NODE_USE_ENV_PROXY"}
    assert {socks[name] for name in changed} == {"socks5h://127.0.0.1:3128"}
    assert changed == {name for name, value in WANTED if value == PROXY} - NEVER_SOCKS
    assert {"ALL_PROXY", "https_proxy", "HTTP_PROXY"} <= changed


def test_java_may_be_left_alone() -> None:
    """Each JVM prints a line about the variable."""
    files = ClientFiles.at(PurePath("/state/clients"), java=False)
    assert "JAVA_TOOL_OPTIONS" not in child_environment(PROXY, BUNDLE, CA, files=files)


@pytest.mark.parametrize("folder", ["/a b", "/it's", "/$(id)`id`", "/caf\u00e9"])
def test_java_reads_back_a_folder_of_any_name(folder: str) -> None:
    """A JVM takes quotes as a shell does; by the real one where there is one, see the guide's table."""
    options = shlex.split(java_options(ClientFiles.at(PurePath(folder)), "http://[::1]:3128", ["a.test", "b.test"]))
    assert f"-Djavax.net.ssl.trustStore={folder}/java-trust.p12" in options
    assert "-Dhttps.proxyHost=::1" in options
    assert "-Dhttp.nonProxyHosts=a.test|b.test" in options


@pytest.mark.parametrize("folder", ['/a"b', "/a\\b", "/a:b", "/a${HOME}", "/a\nb", "/a#b", "/a;b"])
def test_a_folder_that_no_file_can_name_is_refused(folder: str) -> None:
    """Rather than a configuration that says something else."""
    with pytest.raises(ValueError, match="another folder"):
        ClientFiles.at(PurePath(folder))


def test_exceptions_are_only_those_asked_for() -> None:
    """An inherited NO_PROXY is overridden, by nothing or by the hosts named."""
    variables = child_environment(PROXY, BUNDLE, CA, no_proxy=["localhost", "127.0.0.1"])
    assert variables["NO_PROXY"] == variables["no_proxy"] == "localhost,127.0.0.1"


def test_the_guide_names_every_variable() -> None:
    """docs/guides/clients.md says of each who reads it."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "clients.md").read_text()
    missing = [name for name in VARIABLES if f"`{name}`" not in guide]
    assert not missing


def test_unset_removes_what_was_set() -> None:
    """After both, the shell's environment is as before."""
    text = set_text(child_environment(PROXY, BUNDLE, CA), Shell.SH) + unset_text(VARIABLES, Shell.SH)
    before, after = (
        subprocess.run(["sh", "-c", f"{part}env"], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
        for part in ("", text + "\n")
    )
    assert sorted(before.stdout.split()) == sorted(after.stdout.split())
