"""`identity` in the server's configuration: what it comes to, and what is said of mistakes in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import ServerOverrides, load_server_config
from egress.errors import ConfigError
from egress.gate.build import load_generation

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config import ServerConfig

SECRETS = """
secrets:
  arm: {env: ARM, hosts: [management.azure.com], placeholder: {like: jwt}}
  bare: {env: BARE, hosts: [vault.azure.net]}
  odd: {env: ODD, hosts: [graph.microsoft.com], placeholder: {like: plain}}
  own: {env: OWN, hosts: [one.example], placeholder: {value: a-placeholder-of-our-own}}
"""
GOOGLE = "google: {secret: arm, email: a@one.example}"


def load(folder: Path, identity: str) -> ServerConfig:
    """The configuration with these endpoints."""
    (folder / "policy.yaml").write_text("version: 1\n")
    (folder / "egress.yaml").write_text(f"policy: [policy.yaml]\nstate_dir: state\nidentity: {identity}\n{SECRETS}")
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    return load_server_config(folder / "egress.yaml", ServerOverrides(), {})


def test_all_of_it(tmp_path: Path) -> None:
    """The address, the secret of each resource without a slash, and what is left out."""
    text = "{listen: '[::1]:9911', azure: {https://management.azure.com/: arm}, aws: {secret: own}}"
    identity = load(tmp_path, text).identity
    assert identity is not None
    assert identity.listen == ("::1", 9911)
    assert {resource: secret.name for resource, secret in identity.azure.items()} == {
        "https://management.azure.com": "arm"
    }
    assert identity.aws is not None
    assert (identity.aws.name, identity.aws.line, identity.aws.where) == ("own", 3, "identity.aws.secret")
    assert identity.google is None


BROKEN = [
    (f"{{{GOOGLE}}}", "identity: `listen` is missing"),
    (f"{{listen: 9911, {GOOGLE}}}", "identity.listen: should be text"),
    (f"{{listen: 'localhost:9911', {GOOGLE}}}", "`localhost:9911` is not an address and port"),
    (f"{{listen: '127.0.0.1', {GOOGLE}}}", "`127.0.0.1` is not an address and port"),
    (f"{{listen: '127.0.0.1:99111', {GOOGLE}}}", "`127.0.0.1:99111` is not an address and port"),
    (f"{{listen: '0.0.0.0:9911', {GOOGLE}}}", "all addresses are no place to send a client to"),
    (f"{{listen: '127.0.0.1:3128', {GOOGLE}}}", "this is where the proxy listens"),
    ("{listen: '127.0.0.1:9911'}", "there is nothing to answer"),
    ("{listen: '127.0.0.1:9911', azure: {}}", "should name a secret for each resource, not empty"),
    ("{listen: '127.0.0.1:9911', azure: arm}", "should name a secret for each resource, not text"),
    ("{listen: '127.0.0.1:9911', azure: {https://one.example/.default: arm}}", "is no resource"),
    ("{listen: '127.0.0.1:9911', azure: {a: arm, a/: own}}", "`a` stands here twice"),
    ("{listen: '127.0.0.1:9911', aws: {secret: arm}, google: {secret: arm, email: a}}", "`arm` is named twice"),
    ("{listen: '127.0.0.1:9911', google: {secret: arm, email: 'a b'}}", "`a b` is not what Google calls it"),
    ("{listen: '127.0.0.1:9911', gcp: {secret: arm, email: a}}", "identity.gcp: unknown key"),
]


@pytest.mark.parametrize(("identity", "message"), BROKEN)
def test_a_mistake_is_said_where_it_stands(tmp_path: Path, identity: str, message: str) -> None:
    """With the file and line."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, identity)
    assert message in str(caught.value)
    assert "egress.yaml:3: identity" in str(caught.value)


UNFIT = [
    ("azure: {https://one.example: bare}", "identity.azure: the secret `bare` has no placeholder"),
    ("aws: {secret: bare}", "identity.aws.secret: the secret `bare` has no placeholder"),
    ("google: {secret: none, email: a}", "identity.google.secret: no secret `none` is defined"),
    ("azure: {https://one.example: odd}", "the placeholder of `odd` does not look like a token of Azure"),
]


@pytest.mark.parametrize(("identity", "message"), UNFIT)
def test_a_secret_that_does_not_fit_stops_the_start(tmp_path: Path, identity: str, message: str) -> None:
    """And a reload: an endpoint that could give nothing would look like an identity that is broken."""
    config = load(tmp_path, f"{{listen: '127.0.0.1:9911', {identity}}}")
    with pytest.raises(ConfigError) as caught:
        load_generation(config, {})
    assert message in str(caught.value)
    assert "egress.yaml:3" in str(caught.value)


@pytest.mark.parametrize("identity", ["azure: {https://one.example: own}", "aws: {secret: odd}", GOOGLE])
def test_a_secret_that_fits_loads(tmp_path: Path, identity: str) -> None:
    """One whose placeholder is written out is taken as it is."""
    assert load_generation(load(tmp_path, f"{{listen: '127.0.0.1:9911', {identity}}}"), {}).number == 1
