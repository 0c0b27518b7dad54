"""Registries of images by their recipe: the requests that the specification of registry tokens has a client make.

No docker is needed: the client here asks, is told where tokens are, gets one without signing in, and pulls with it.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

import pytest
from rig.proxy import port_of
from rig.recipes import policies, sandbox
from rig.services import Answer, Services, behind, zipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx
    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.services import Asked, Service

PASSWORD = "registry-password-0123456789-real"
TOKEN = base64.urlsafe_b64encode(b"a token for five minutes " * 20).decode()
OWN, GHCR, BASIC = policies("docker.md")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = bytes(range(256)) * 512


def basic(user: str) -> str:
    """The credential of the registry's account."""
    return "Basic " + base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()


def images(layers: str) -> Service:
    """A registry with one image, whose layer is elsewhere."""

    def serve(asked: Asked) -> Answer:
        if "/blobs/" in asked.path:
            return Answer(307, b"", {"Location": f"https://{layers}/layer?signature=0123"})
        manifest = {"schemaVersion": 2, "layers": [{"digest": "sha256:0123", "size": len(LAYER)}]}
        return Answer(200, json.dumps(manifest).encode(), {"Content-Type": MANIFEST})

    return serve


def tokens(_: Asked) -> Answer:
    """A token server, whose answer nobody but the client needs."""
    return Answer(200, json.dumps({"token": TOKEN, "expires_in": 300}).encode(), {"Content-Type": "application/json"})


def layers(asked: Asked) -> Answer:
    """A store of layers, which takes the signature in the URL and no other credential."""
    assert asked.credential == ""
    return Answer(200, LAYER, {"Content-Type": "application/octet-stream"})


def by_path(*services: tuple[str, Service]) -> Service:
    """The first service whose prefix fits."""
    return lambda asked: next(service for prefix, service in services if asked.path.startswith(prefix))(asked)


def pull(client: httpx.Client, registry: str, name: str) -> bytes:
    """What a client without a login does for one image; the layer's bytes."""
    url = f"https://{registry}/v2/{name}/manifests/latest"
    said = client.get(url, headers={"Accept": MANIFEST})
    bearer = {}
    if said.status_code == 401:
        challenge = dict(re.findall(r'(\w+)="([^"]*)"', said.headers["www-authenticate"]))
        realm = challenge.pop("realm")
        told = client.get(realm, params=challenge)
        assert told.status_code == 200, told.text
        bearer = {"Authorization": f"Bearer {told.json()['token']}"}
        said = client.get(url, headers={"Accept": MANIFEST, **bearer})
    assert said.status_code == 200, said.text
    (layer,) = said.json()["layers"]
    moved = client.get(f"https://{registry}/v2/{name}/blobs/{layer['digest']}", headers=bearer)
    assert moved.status_code == 307
    # As clients do: another host gets no Authorization.
    return client.get(moved.headers["location"]).content


FORMS = {
    "a token server of its own": (
        OWN,
        ("registry.corp.example", "auth.corp.example", "layers.corp.example"),
        "team/app",
        "puller",
    ),
    "tokens on the registry's host": (
        GHCR,
        ("ghcr.io", "ghcr.io", "pkg-containers.githubusercontent.com"),
        "acme/app",
        "acme-bot",
    ),
}


@pytest.mark.parametrize("coded", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_an_image_is_pulled_without_a_login(
    form: tuple[str, tuple[str, str, str], str, str],
    start: Callable[..., Proxy],
    origin: Origins,
    tmp_path: Path,
    *,
    coded: bool,
) -> None:
    """The password goes to the token's path alone; the token comes back whole, and opens the registry."""
    policy, (registry, auth, store), name, user = form
    port = port_of(origin)
    realm = f'Bearer realm="https://{auth}:{port}/token",service="{registry}",scope="repository:{name}:pull"'
    token = behind(zipped(tokens) if coded else tokens, basic(user))
    stored = behind(images(f"{store}:{port}"), f"Bearer {TOKEN}", challenge=realm)
    shared = by_path(("/token", token), ("/v2/", stored))
    services = Services({registry: shared, auth: shared, store: layers})
    inside = sandbox(start, tmp_path / "home", policy, port, {"registry": PASSWORD})
    with origin.behaving(services.behave), inside.http() as client:
        assert pull(client, f"{registry}:{port}", name) == LAYER
    assert {asked.credential for asked in services.asked if asked.path == "/token"} == {basic(user)}
    assert {asked.credential for asked in services.asked if asked.path != "/token"} == {"", f"Bearer {TOKEN}"}
    assert inside.refused == []


def test_a_registry_without_tokens_gets_the_password_itself(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """It never asks, and the store of layers gets nothing."""
    registry, store, port = "images.corp.example", "layers.corp.example", port_of(origin)
    services = Services({registry: behind(images(f"{store}:{port}"), basic("puller")), store: layers})
    inside = sandbox(
        start,
        tmp_path / "home",
        BASIC.replace("rules:", f"rules:\n  - allow: {store}"),
        port,
        {"registry": PASSWORD},
        store,
    )
    with origin.behaving(services.behave), inside.http() as client:
        assert pull(client, f"{registry}:{port}", "team/app") == LAYER
    assert {asked.credential for asked in services.to(registry)} == {basic("puller")}


def test_the_password_cannot_be_had_by_asking(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """A realm of somebody else's making is another host, which is refused; a path beside the token's gets nothing."""
    port = port_of(origin)
    services = Services({"auth.corp.example": tokens})
    inside = sandbox(start, tmp_path / "home", OWN, port, {"registry": PASSWORD}, "evil.test")
    with origin.behaving(services.behave), inside.http() as client:
        with pytest.raises(Exception, match="403"):
            client.get(f"https://evil.test:{port}/token")
        assert client.get(f"https://auth.corp.example:{port}/elsewhere").status_code == 403
    assert services.asked == []
    assert inside.refused == ["host-not-allowed", "path-not-allowed"]
