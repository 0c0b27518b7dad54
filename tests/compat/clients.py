"""The clients, a row each: what they need, what they are told to do, and what is expected of them.

Registries are the stand-in server under its own name, never a public one.
"""

from __future__ import annotations

from compat.columns import Client, Column, Expected, Road, Tls

DATABASE = 5432
_NO_SOCKS = "speaks no SOCKS; `egress env --socks` leaves it on HTTP"
_OWN_PROTOCOL = "knows of no proxy: give it a [forward](guides/roads.md#forwards), or redirect it"
_NEVER = "not looked for: PostgreSQL is no HTTP, and its bytes are carried unread, by a rule with `protocol: tcp`"
_UNREAD = {Column(road, Tls.INSPECTED): Expected.never(_NEVER) for road in Road}
_FETCH = "const answer = await fetch(process.env.URL + '/hello'); console.log(await answer.text());"
_HTTPS = """
import https from 'node:https';
https.get(process.env.URL + '/hello', answer => answer.pipe(process.stdout))
  .on('error', error => { console.error(error); process.exit(1); });
"""
_OLD_NODE = "ignores the proxy variables: take Node 22.21 or 24.5, redirect it, or give the program a proxy agent"
_NODE_SOCKS = "speaks no SOCKS, and goes straight to the server: use `egress env` without `--socks`"
_HTTP_ANYHOW = "speaks HTTP to the proxy whatever kind of proxy a variable names"
_REFUSES_SOCKS = "speaks no SOCKS, and refuses the variable: use `egress env` without `--socks`"
_GO_SOCKS = (
    "Go 1.19 takes `socks5h` for a host: write `HTTPS_PROXY=socks5://...`, by which Go leaves names to the proxy too, "
    "or use `egress env` without `--socks`"
)
_STREAMS = "reads no proxy variable: give it a context, `stream_context_set_default(['http' => ['proxy' => 'tcp://HOST:PORT']])`"
_PYTHON_VERSION = '"$PYTHON" -c "import importlib.metadata as m; print(m.version(\'{}\'))"'

_PACKAGES = {"grpc": "grpcio"}


def _python(name: str, module: str, code: str, **more: object) -> Client:
    version = '"$PYTHON" --version' if module == "urllib" else _PYTHON_VERSION.format(_PACKAGES.get(module, module))
    command = f"cat > go.py <<'END'\nimport os\nurl = os.environ['URL']\n{code}\nEND\nexec \"$PYTHON\" go.py"
    return Client(name, f"py-{module}", (f"python:{module}",), version, command, **more)  # type: ignore[arg-type]


def _node(name: str, slug: str, program: str, code: str, **more: object) -> Client:
    command = f"cat > go.mjs <<'END'\n{code}\nEND\nexec \"${program.upper()}\" go.mjs"
    version = f'"${program.upper()}" --version'
    return Client(name, slug, (program,), version, command, **more)  # type: ignore[arg-type]


_WEBSOCKETS = """
from websockets.sync.client import connect
with connect(url.replace('https', 'wss') + '/echo') as channel:
    channel.send('hello from the stand-in')
    print(channel.recv())
"""
_AIOHTTP = """
import asyncio, aiohttp
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(url + '/hello') as answer:
        print(await answer.text())
asyncio.run(main())
"""
_GRPC = """
import os, grpc
channel = grpc.secure_channel(os.environ['HOST'] + ':50051', grpc.ssl_channel_credentials())
print(channel.unary_unary('/echo.Echo/Say')(b'x', timeout=10).decode())
"""
_JAVA = """
cat > Fetch.java <<'END'
import java.net.*;
import java.net.http.*;
public class Fetch {
    public static void main(String[] words) throws Exception {
        URI uri = URI.create(System.getenv("URL") + "/hello");
        if (words[0].equals("old")) {
            System.out.write(uri.toURL().openStream().readAllBytes());
            System.out.flush();
        } else {
            HttpClient client = HttpClient.newBuilder().proxy(ProxySelector.getDefault()).build();
            HttpRequest request = HttpRequest.newBuilder(uri).build();
            System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        }
    }
}
END
"$JAVAC" -d . Fetch.java
"""
_GO = """
cat > go.mod <<'END'
module fetch
go 1.19
END
cat > main.go <<'END'
package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
	answer, err := http.Get(os.Getenv("URL") + "/hello")
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	body, _ := io.ReadAll(answer.Body)
	fmt.Print(string(body))
}
END
CGO_ENABLED=0 "$GO" build -o fetch .
"""
_PHP_STREAM = 'readfile(getenv("URL") . "/hello") or exit(1);'
_PHP_CURL = (
    '$c = curl_init(getenv("URL") . "/hello"); curl_exec($c); if (curl_errno($c)) '
    "{ fwrite(STDERR, curl_error($c)); exit(1); }"
)
_CARGO = """
export CARGO_HOME=$WORK/cargo
mkdir -p src .cargo; : > src/lib.rs
printf '[registries.stand-in]\\nindex = "sparse+%s/cargo/"\\n' "$URL" > .cargo/config.toml
printf '[package]\\nname = "x"\\nversion = "1.0.0"\\nedition = "2021"\\n[dependencies]\\n%s\\n' \\
  'tinything = { version = "1", registry = "stand-in" }' > Cargo.toml
"$CARGO" fetch --quiet
cat cargo/registry/src/*/tinything-1.0.0/src/lib.rs
"""
_APT = """
mkdir -p lists/partial cache/archives/partial
printf 'deb [trusted=yes] %s/apt ./\\n' "$URL" > sources.list
set -- -qq -o Dir::State::Lists=$WORK/lists -o Dir::Cache=$WORK/cache -o Dir::Etc::SourceList=$WORK/sources.list \\
  -o Dir::Etc::SourceParts=/dev/null -o Dir::State::status=/dev/null -o APT::Sandbox::User=root -o Acquire::Retries=0
"$APTGET" "$@" -o APT::Update::Error-Mode=any update
"$APTCACHE" "$@" show tinything
"""
_PACKAGE_JSON = 'printf \'{"name": "x", "version": "1.0.0"}\' > package.json\n'
_YARN = f"""
{_PACKAGE_JSON}: > yarn.lock
cat > .yarnrc.yml <<END
npmRegistryServer: "$URL/npm"
enableTelemetry: false
enableGlobalCache: false
nodeLinker: node-modules
httpRetry: 0
npmMinimalAgeGate: 0
END
"$NODE" "$YARN" add tinything@1.0.0 >&2
cat node_modules/tinything/index.js
"""
_CHROMIUM = """
mkdir -p .pki/nssdb
"$CERTUTIL" -d sql:.pki/nssdb -N --empty-password
"$CERTUTIL" -d sql:.pki/nssdb -A -t C,, -n ours -i "$ROOTS/ca.pem"
"$CERTUTIL" -d sql:.pki/nssdb -A -t C,, -n theirs -i "$ROOTS/theirs.pem"
exec "$CHROMIUM" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \\
  --user-data-dir=$WORK/profile --disable-background-networking --disable-component-update --disable-quic \\
  --virtual-time-budget=8000 --dump-dom "$URL/hello.html"
"""
_SKOPEO = """
"$SKOPEO" --insecure-policy --tmpdir "$WORK" copy -q "docker://$HOST/tinything:1" dir:out >&2
for file in out/*; do gzip -dcq "$file" 2> gzip.log || :; done | tr -d '\\000'
"""
_PODMAN = """
"$PODMAN" --root "$WORK/root" --runroot "$WORK/run" --tmpdir "$WORK/tmp" --storage-driver vfs --events-backend none \
  pull -q "$HOST/tinything:1" >&2
cat root/vfs/dir/*/*
"""
_NIX = """
export HOME="$WORK" NIX_CONF_DIR="$WORK" NIX_STORE_DIR="$WORK/store" NIX_STATE_DIR="$WORK/state" NIX_LOG_DIR="$WORK/log"
"$NIX" --extra-experimental-features nix-command --option connect-timeout 20 --option download-attempts 1 \
  eval --impure --raw --expr "builtins.readFile (builtins.fetchurl \"$URL/hello\")"
"""
_PIP = """
"$PYTHON" -m pip -q --isolated --disable-pip-version-check install --no-cache-dir --retries 0 --target out \\
  ${PIP_PROXY:+--proxy "$PIP_PROXY"} --cert "$PIP_CERT" --index-url "$URL/simple" tinything
cat out/*.py
"""
_UV = """
"$UV" -q --no-config pip install --no-cache --target out --index-url "$URL/simple" tinything
cat out/*.py
"""
_NPM = f"""
{_PACKAGE_JSON}"$NPM" install --registry "$URL/npm/" --no-audit --no-fund --no-update-notifier \\
  --fetch-retries 0 tinything >&2
cat node_modules/tinything/index.js
"""
_PNPM = f"""
{_PACKAGE_JSON}"$NODE" "$PNPM" add --registry "$URL/npm/" tinything >&2
cat node_modules/tinything/index.js
"""
_GO_MODULES = """
export GOPROXY="$URL/go" GONOSUMDB=* GOFLAGS=-modcacherw GOMODCACHE=$WORK/mod GOPATH=$WORK
"$GO" mod download example.test/tinything@v1.0.0
cat mod/example.test/*/tiny.go
"""
_PSQL = '"$PSQL" "host={} port={} dbname=x user=x sslmode=disable connect_timeout=5" -XAtc "select 1"'

_DENO = f"""
cat > go.mjs <<'END'
{_FETCH.replace("process.env.URL", "Deno.env.get('URL')")}
END
exec "$DENO" run -A --no-config --no-lock go.mjs
"""
_RUBY = 'exec "$RUBY" -ropen-uri -e \'puts URI.open(ENV["URL"] + "/hello").read\''
_CHROMIUM_SOCKS = (
    f"{_HTTP_ANYHOW}; `--proxy-server=socks5://HOST:PORT` makes it use SOCKS, and names are left to the proxy"
)
_ON_HTTP = {Road.SOCKS: Expected.by_http(_NO_SOCKS)}


def _fails(why: str, *roads: Road) -> dict[Road | Column, Expected]:
    """By SOCKS, or by these roads."""
    return dict.fromkeys(roads or (Road.SOCKS,), Expected.fails(why))


CLIENTS = (
    Client("curl", "curl", ("curl",), '"$CURL" --version', '"$CURL" -qfsS --max-time 20 "$URL/hello"', everywhere=True),
    Client(
        "wget",
        "wget",
        ("wget",),
        '"$WGET" --version',
        '"$WGET" -qO- --tries=1 --timeout=20 "$URL/hello"',
        expected=_ON_HTTP,
    ),
    Client(
        "git",
        "git",
        ("git",),
        '"$GIT" --version',
        '"$GIT" clone -q "$URL/tinything.git" x; cat x/hello',
        everywhere=True,
    ),
    Client(
        "pip",
        "pip",
        ("python:pip",),
        _PYTHON_VERSION.format("pip"),
        _PIP,
        more={Road.SOCKS: "python:socks"},
        says="SOCKS needs PySocks beside pip",
        everywhere=True,
    ),
    Client("uv", "uv", ("uv",), '"$UV" --version', _UV),
    Client("npm", "npm", ("npm",), '"$NPM" --version', _NPM, everywhere=True),
    Client("pnpm", "pnpm", ("pnpm", "node"), '"$NODE" "$PNPM" --version', _PNPM),
    Client("Yarn", "yarn", ("yarn", "node"), '"$NODE" "$YARN" --version', _YARN, expected=_ON_HTTP),
    _node("Node, fetch", "node-fetch", "node", _FETCH, expected=_fails(_NODE_SOCKS), everywhere=True),
    _node("Node, node:https", "node-https", "node", _HTTPS, expected=_fails(_NODE_SOCKS)),
    _node(
        "Node before 22.21, fetch",
        "oldnode-fetch",
        "oldnode",
        _FETCH,
        expected=_fails(_OLD_NODE, Road.EXPLICIT, Road.SOCKS),
        everywhere=True,
    ),
    _node(
        "Node before 22.21, node:https",
        "oldnode-https",
        "oldnode",
        _HTTPS,
        expected=_fails(_OLD_NODE, Road.EXPLICIT, Road.SOCKS),
    ),
    Client("Deno", "deno", ("deno",), '"$DENO" --version', _DENO),
    _node("Bun, fetch", "bun", "bun", _FETCH, expected=_fails(_REFUSES_SOCKS)),
    _python(
        "Python, urllib",
        "urllib",
        "import urllib.request\nprint(urllib.request.urlopen(url + '/hello').read().decode())",
        expected={Road.SOCKS: Expected.by_http(_HTTP_ANYHOW)},
        everywhere=True,
    ),
    _python(
        "Python, requests",
        "requests",
        "import requests\nprint(requests.get(url + '/hello').text)",
        more={Road.SOCKS: "python:socks"},
        says="SOCKS needs `requests[socks]`",
        everywhere=True,
    ),
    _python(
        "Python, httpx",
        "httpx",
        "import httpx\nprint(httpx.get(url + '/hello').text)",
        more={Road.SOCKS: "python:socksio"},
        says="SOCKS needs `httpx[socks]`",
        everywhere=True,
    ),
    _python(
        "Python, aiohttp",
        "aiohttp",
        _AIOHTTP,
        says="with `trust_env=True`: without it, no proxy variable is read",
        expected={Road.SOCKS: Expected.by_http(_HTTP_ANYHOW)},
    ),
    _python(
        "Python, websockets",
        "websockets",
        _WEBSOCKETS,
        more={Road.SOCKS: "python:python_socks"},
        says="SOCKS needs `python-socks`",
        everywhere=True,
    ),
    _python("Python, grpcio", "grpc", _GRPC, expected=_ON_HTTP),
    Client("Go, net/http", "go", ("go",), '"$GO" version', '"$BUILT/fetch"', build=_GO, expected=_fails(_GO_SOCKS)),
    Client("Go modules", "go-mod", ("go",), '"$GO" version', _GO_MODULES, expected=_fails(_GO_SOCKS)),
    Client(
        "Java, HttpClient",
        "java-new",
        ("java", "javac"),
        '"$JAVA" --version',
        '"$JAVA" -cp "$BUILT" Fetch new',
        build=_JAVA,
        expected=_ON_HTTP,
        says="with `proxy(ProxySelector.getDefault())`",
    ),
    Client(
        "Java, HttpsURLConnection",
        "java-old",
        ("java", "javac"),
        '"$JAVA" --version',
        '"$JAVA" -cp "$BUILT" Fetch old',
        build=_JAVA,
        expected=_ON_HTTP,
    ),
    Client("cargo", "cargo", ("cargo",), '"$CARGO" --version', _CARGO),
    Client("Ruby, open-uri", "ruby", ("ruby",), '"$RUBY" --version', _RUBY, expected=_fails(_REFUSES_SOCKS)),
    Client("PHP, curl", "php-curl", ("php",), '"$PHP" --version', f"exec \"$PHP\" -r '{_PHP_CURL}'"),
    Client(
        "PHP, streams",
        "php-stream",
        ("php",),
        '"$PHP" --version',
        f"exec \"$PHP\" -r '{_PHP_STREAM}'",
        expected=_fails(_STREAMS, Road.EXPLICIT, Road.SOCKS),
    ),
    Client("apt", "apt", ("apt-get", "apt-cache"), '"$APTGET" --version', _APT, expected=_ON_HTTP, everywhere=True),
    Client("skopeo", "skopeo", ("skopeo",), '"$SKOPEO" --version', _SKOPEO, expected=_fails(_GO_SOCKS)),
    Client("podman", "podman", ("podman",), '"$PODMAN" --version', _PODMAN, expected=_fails(_GO_SOCKS)),
    Client("Nix", "nix", ("nix",), '"$NIX" --version', _NIX),
    Client(
        "Chromium",
        "chromium",
        ("chromium", "certutil"),
        '"$CHROMIUM" --version',
        _CHROMIUM,
        says="its roots are those of `egress ca install --nss`",
        expected={Road.SOCKS: Expected.by_http(_CHROMIUM_SOCKS)},
    ),
    Client(
        "psql",
        "psql",
        ("psql",),
        '"$PSQL" --version',
        _PSQL.format("$HOST", DATABASE),
        expected={**dict.fromkeys((Road.EXPLICIT, Road.SOCKS), Expected.never(_OWN_PROTOCOL)), **_UNREAD},
        everywhere=True,
    ),
    Client(
        "psql, through a forward",
        "psql-forward",
        ("psql",),
        '"$PSQL" --version',
        _PSQL.format("$FORWARD_HOST", "$FORWARD_PORT"),
        expected={
            **dict.fromkeys((Road.SOCKS, Road.TRANSPARENT), Expected.never("a forward is a listener of its own")),
            **_UNREAD,
        },
        everywhere=True,
    ),
)
