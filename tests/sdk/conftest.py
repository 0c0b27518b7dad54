"""The clouds' own SDKs as clients, in `.venv-sdk`, which `make sdk` makes: their versions are not the proxy's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig.fixtures import origin, roots, start
from rig.identities import begin, token_of
from rig.proxy import Carrier

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.modes import Site
    from rig.proxy import Proxy

__all__ = ["origin", "roots", "start"]

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sdk" / "bin" / "python"
SCRIPTS = Path(__file__).parent / "scripts"
SECONDS = 60


@pytest.fixture
def carrier() -> Carrier:
    """The front: it accepts for the listener of the endpoints."""
    return Carrier.FRONT


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A proxy that answers the endpoints, and the origin that stands in for the clouds' services."""
    return begin(start, origin)


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Callable[..., Any]:
    """Run one of the scripts as a sandbox would: what it prints, as JSON. `environment` is what `egress env` adds."""

    def script(name: str, *arguments: str, through: bool = False, **environment: str) -> Any:
        assert PYTHON.exists(), "the SDKs are not installed: run `make sdk`"
        address, port = site.proxy.address
        proxy = f"http://{address}:{port}"
        own = site.proxy.authority.certificate_path
        inherited = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "HTTPS_PROXY": proxy,
            "REQUESTS_CA_BUNDLE": str(own),
            "AWS_CA_BUNDLE": str(own),
            # An SDK that asks a link-local address goes there directly, unless everything goes through the proxy.
            **({"HTTP_PROXY": proxy} if through else {"NO_PROXY": "127.0.0.1,169.254.169.254"}),
        }
        done = subprocess.run(
            [PYTHON, "-I", SCRIPTS / f"{name}.py", *arguments],
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return script


@pytest.fixture
def exported(site: Site) -> dict[str, str]:
    """What `egress env` exports for the endpoints; that it does is tested beside it."""
    where, token = "{}:{}".format(*site.proxy.endpoints), token_of(site.proxy)
    return {
        "IDENTITY_ENDPOINT": f"http://{where}/msi/token",
        "IDENTITY_HEADER": token,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{where}/aws/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
        "GCE_METADATA_HOST": where,
        "GCE_METADATA_IP": where,
    }
