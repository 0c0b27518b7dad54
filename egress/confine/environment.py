"""The environment that sends a client's traffic to the proxy and lets it trust the proxy's CA, for many clients.

None of this confines anything: a program may ignore every variable. It makes well-behaved clients work; what holds
the others is the network around them.

Four kinds of variable: where the proxy is; a bundle that replaces a client's own roots (so it holds the public ones
too); our CA alone, for clients that add it to theirs; files of ours, for clients that read no variable for either.
docs/guides/clients.md has the source for each.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePath

    from egress.confine.client_files import ClientFiles

# Both cases: curl reads `http_proxy` in lower case only, others only the upper.
_PROXY = (
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    # Set, so that a proxy written in ~/.npmrc does not win; npm's "proxy" is the one for http.
    "npm_config_proxy",
    "npm_config_https_proxy",
    # Likewise, over pip.conf and cargo's config.toml.
    "PIP_PROXY",
    "CARGO_HTTP_PROXY",
)
# These speak HTTP to a proxy and nothing else; the first wins over `https_proxy`, so that none that was inherited may.
_HTTP_PROXY_ONLY = ("grpc_proxy", "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY")
# Set even if empty: an inherited exception would let a client pass by the proxy, unseen and unhelped.
_NO_PROXY = ("NO_PROXY", "no_proxy", "no_grpc_proxy")
_BUNDLE = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "npm_config_cafile",
    "NIX_SSL_CERT_FILE",
    "CONDA_SSL_VERIFY",
)
_CA = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
# Node 22.21 and 24.5 or later look at the proxy variables only if told to. Told to, with one for SOCKS, no program of
# Node starts, npm and Yarn neither; set all the same, so that none that was inherited holds.
_SWITCH = "NODE_USE_ENV_PROXY"
_FILES = ("JAVA_TOOL_OPTIONS", "APT_CONFIG", "WGETRC", "PHP_INI_SCAN_DIR")

PROXY_VARIABLES = _PROXY
BUNDLE_VARIABLES = _BUNDLE
CA_VARIABLES = _CA
VARIABLES = (*_PROXY, *_HTTP_PROXY_ONLY, *_NO_PROXY, *_BUNDLE, *_CA, _SWITCH, *_FILES)


def child_environment(
    proxy_url: str,
    bundle: PurePath,
    ca: PurePath,
    *,
    no_proxy: Sequence[str] = (),
    files: ClientFiles | None = None,
    socks_url: str | None = None,
) -> Mapping[str, str]:
    """The variables to set for a process that is to use the proxy, by name.

    `proxy_url` is `http://HOST:PORT`; `bundle` holds the public roots and our CA, `ca` our CA alone, both absolute and
    readable by the process. `no_proxy` names hosts that it may reach directly, by its network's leave. `files` are for
    Java, apt, wget and PHP (see `client_files`); None: these get no variable. `socks_url`, `socks5h://HOST:PORT`, goes
    to the clients that can speak SOCKS.
    """
    return {
        **dict.fromkeys(_PROXY, socks_url or proxy_url),
        **dict.fromkeys(_HTTP_PROXY_ONLY, proxy_url),
        **dict.fromkeys(_NO_PROXY, ",".join(no_proxy)),
        _SWITCH: "0" if socks_url else "1",
        **_trusting(bundle, ca, files, _java_proxy(proxy_url, no_proxy)),
    }


def redirected_environment(bundle: PurePath, ca: PurePath, files: ClientFiles | None = None) -> Mapping[str, str]:
    """The variables to set for a process that its network leads to the proxy: trust, and no proxy. As above."""
    return _trusting(bundle, ca, files, {})


def _trusting(
    bundle: PurePath, ca: PurePath, files: ClientFiles | None, java_proxy: Mapping[str, object]
) -> dict[str, str]:
    own = {} if files is None else _of_files(files, java_proxy)
    return {**dict.fromkeys(_BUNDLE, str(bundle)), **dict.fromkeys(_CA, str(ca)), **own}


def _of_files(files: ClientFiles, java_proxy: Mapping[str, object]) -> dict[str, str]:
    java = {} if files.java is None else {"JAVA_TOOL_OPTIONS": _java_options(files, java_proxy)}
    return {
        **java,
        "APT_CONFIG": str(files.apt),
        "WGETRC": str(files.wget),
        # The empty entry first is PHP's own folder, which this one adds to.
        "PHP_INI_SCAN_DIR": f":{files.php.parent}",
    }


def java_options(files: ClientFiles, proxy_url: str, no_proxy: Sequence[str] = ()) -> str:
    """What a JVM is to be told: its proxy, and the store that replaces its roots."""
    return _java_options(files, _java_proxy(proxy_url, no_proxy))


def _java_proxy(proxy_url: str, no_proxy: Sequence[str]) -> dict[str, object]:
    parts = urlsplit(proxy_url)
    return {
        "http.proxyHost": parts.hostname,
        "http.proxyPort": parts.port,
        "https.proxyHost": parts.hostname,
        "https.proxyPort": parts.port,
        # Empty, or Java goes to loopback addresses by itself.
        "http.nonProxyHosts": "|".join(no_proxy),
    }


def _java_options(files: ClientFiles, proxy: Mapping[str, object]) -> str:
    properties = {
        **proxy,
        "javax.net.ssl.trustStore": files.java,
        "javax.net.ssl.trustStoreType": "PKCS12",
        "javax.net.ssl.trustStorePassword": files.java_password,
    }
    # The JVM takes quotes as a shell does, and knows no escape.
    return " ".join(shlex.quote(f"-D{name}={value}") for name, value in properties.items())
