"""node through the proxy: fetch where it reads the proxy variables itself, else https over a CONNECT of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.station import KEY

if TYPE_CHECKING:
    from harness.station import Station

# node 24 has fetch that obeys NODE_USE_ENV_PROXY. Before that, fetch can be given a dispatcher only from outside node,
# so the tunnel is opened with node's own http and the request is sent inside with node's own https.
PROGRAM = """
const http = require('node:http'), https = require('node:https'), tls = require('node:tls');
const target = new URL(process.argv[1]), proxy = new URL(process.env.HTTPS_PROXY);
const fail = (text) => { console.error(text); process.exit(1); };
if (Number(process.versions.node.split('.')[0]) >= 24) {
  fetch(target).then(async (answer) => console.log(answer.status, await answer.text()),
                     (error) => fail(String(error.cause || error)));
} else {
  const ask = http.request({host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${target.hostname}:443`,
                            headers: {host: `${target.hostname}:443`}});
  ask.on('error', (error) => fail(String(error)));
  ask.on('connect', (answer, socket) => {
    if (answer.statusCode !== 200) fail(`${answer.statusCode} ${answer.statusMessage}`);
    const inside = tls.connect({socket, servername: target.hostname, ALPNProtocols: ['http/1.1']});
    https.get(target, {createConnection: () => inside, defaultPort: 443}, (reply) => {
      let text = ''; reply.on('data', (part) => { text += part; });
      reply.on('end', () => { console.log(reply.statusCode, text); inside.destroy(); });
    }).on('error', (error) => fail(String(error)));
  });
  ask.end();
}
"""


def test_node_passes_and_is_denied(station: Station) -> None:
    """Allowed: 200 and one row. Denied: an error, and one row."""
    window = station.window()
    done = station.run("node", "-e", PROGRAM, "https://allowed.test/", NODE_USE_ENV_PROXY="1")
    assert done.stdout.startswith("200 hello from allowed"), done.stderr
    assert [one["key"] for one in window.seen(1)] == [KEY]
    assert window.verdicts(1) == ["allow"]

    window = station.window()
    done = station.run("node", "-e", PROGRAM, "https://evil.test/", NODE_USE_ENV_PROXY="1")
    assert done.returncode != 0
    assert "403" in done.stderr
    assert window.verdicts(1) == ["deny"]
