"""Model providers by their recipe: the headers that their SDKs send, and answers that stream."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from rig.proxy import port_of
from rig.recipes import policies, sandbox
from rig.services import Answer, Services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins, Stream
    from rig.proxy import Proxy
    from rig.services import Asked

FIRST, OTHERS = policies("models.md")
VALUE = "provider-key-0123456789-real"
# How the SDKs sign in: policy, secret, its variable, host, path, header, and what stands before the key.
PROVIDERS = {
    "anthropic": (FIRST, "anthropic", "ANTHROPIC_API_KEY", "api.anthropic.com", "/v1/messages", "x-api-key", ""),
    "openai": (FIRST, "openai", "OPENAI_API_KEY", "api.openai.com", "/v1/responses", "authorization", "Bearer "),
    "gemini": (
        OTHERS,
        "gemini",
        "GEMINI_API_KEY",
        "generativelanguage.googleapis.com",
        "/v1beta/models/gemini-2.5-pro:generateContent",
        "x-goog-api-key",
        "",
    ),
    "azure": (
        OTHERS,
        "azure",
        "AZURE_OPENAI_API_KEY",
        "acme.openai.azure.com",
        "/openai/deployments/small/chat/completions",
        "api-key",
        "",
    ),
    "azure, as OpenAI": (
        OTHERS,
        "azure",
        "AZURE_OPENAI_API_KEY",
        "acme.openai.azure.com",
        "/openai/v1/responses",
        "authorization",
        "Bearer ",
    ),
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_placeholder_key_becomes_the_real_one(
    provider: str, start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """In the header that the SDK uses; a key that was smuggled in gets nowhere."""
    policy, secret, variable, host, path, header, scheme = PROVIDERS[provider]
    port = port_of(origin)

    def model(asked: Asked) -> Answer:
        known = asked.fields.get(header) == f"{scheme}{VALUE}"
        return Answer(200 if known else 401, b"{}", {"Content-Type": "application/json"})

    services = Services({host: model})
    inside = sandbox(start, tmp_path / "home", policy, port, {secret: VALUE})
    url = f"https://{host}:{port}{path}"
    with origin.behaving(services.behave), inside.http() as client:
        held = {header: f"{scheme}{inside.held[variable]}"}
        assert client.post(url, json={"model": "m"}, headers=held).status_code == 200
        assert client.post(url, json={"model": "m"}, headers={header: f"{scheme}own"}).status_code == 403
        assert client.post(url, json={"key": inside.held[variable]}, headers=held).status_code in {403, 502}
    assert inside.refused[0] == "placeholder-required"
    assert VALUE not in repr(inside.proxy.ledger.events)


def test_an_answer_streams_event_by_event(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """Each event reaches the client before the server sends the next, though the answer is searched for the key."""
    port, host = port_of(origin), "api.anthropic.com"
    read = threading.Event()

    def stream(wire: Stream) -> None:
        head = wire.request()
        assert head is not None
        wire.body(head)
        assert head.values(b"x-api-key") == [VALUE.encode()]
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            data = b"event: ping\ndata: %d\n\n" % number
            wire.send(b"%x\r\n%b\r\n" % (len(data), data))
            assert read.wait(10)
            read.clear()
        wire.send(b"0\r\n\r\n")

    inside = sandbox(start, tmp_path / "home", FIRST, port, {"anthropic": VALUE})
    held = {"x-api-key": inside.held["ANTHROPIC_API_KEY"], "content-type": "application/json"}
    url = f"https://{host}:{port}/v1/messages"
    got = []
    with origin.behaving(stream), inside.http() as client:
        body = json.dumps({"stream": True})
        with client.stream("POST", url, content=body, headers=held) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    got.append(line)
                    read.set()
    assert got == ["data: 0", "data: 1", "data: 2"]
