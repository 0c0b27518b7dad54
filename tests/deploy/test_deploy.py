"""The deployments in deploy/, read as data: what each must have so that the sandbox is held, and that its parts fit.

What tools of their own say of them (schemas of Compose and Kubernetes, systemd-analyze) is not asked here:
docs/guides/deploy.md says how.
"""

from __future__ import annotations

import re
import shlex
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documents import ROOT, links
from rig.netns import Machine
from ruamel.yaml import YAML
from typer.testing import CliRunner

from egress.cli.main import app
from egress.config import PolicySource, ServerOverrides, UnixListener, load_policy, load_server_config
from egress.confine.environment import child_environment
from egress.confine.gateway import Ipv6, ThisHost
from egress.confine.gateway_nft import Table
from egress.confine.gateway_status import status
from egress.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEPLOY = ROOT / "deploy"
COMPOSE = ("compose.yaml", "sidecar.yaml")
TRUST = (Path("/trust/ca-bundle.pem"), Path("/trust/ca.pem"))
UID = 3128
# What other parts of the program bring.
BROUGHT = {"--transparent", "--dns"}


def compose(name: str) -> dict[str, Any]:
    """A Compose file; its anchors and merges are what they come to."""
    found: dict[str, Any] = YAML(typ="safe").load((DEPLOY / "compose" / name).read_text())
    return found


def kubernetes(kind: str) -> dict[str, Any]:
    """The object of a kind."""
    objects = YAML(typ="safe").load_all((DEPLOY / "kubernetes" / "sidecar.yaml").read_text())
    (found,) = [one for one in objects if one is not None and one["kind"] == kind]
    return dict(found)


def pod() -> dict[str, Any]:
    """The pod's specification."""
    return dict(kubernetes("Deployment")["spec"]["template"]["spec"])


def unit(name: str) -> Mapping[str, Mapping[str, str]]:
    """A unit's sections; of a key that is given twice, the last value."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((DEPLOY / "systemd" / name).read_text())
    return parser


# compose


@pytest.mark.parametrize("name", COMPOSE)
def test_nobody_has_a_capability_but_the_gateway_and_it_has_one(name: str) -> None:
    """All drop them all, none may gain any, none is privileged or sees the host."""
    services = compose(name)["services"]
    for service, told in services.items():
        assert told["cap_drop"] == ["ALL"], service
        assert told["security_opt"] == ["no-new-privileges:true"], service
        assert told.get("cap_add", []) == (["NET_ADMIN"] if service == "gateway" else []), service
        assert not {"privileged", "pid", "ipc", "devices", "ports"} & set(told), service
        assert told.get("network_mode") in {None, "none", "service:netns"}, service
        mounts = [mount.split(":")[0] for mount in told.get("volumes", [])]
        assert not [mount for mount in mounts if mount.startswith("/")], service


@pytest.mark.parametrize("name", COMPOSE)
def test_the_sandbox_gets_the_certificate_and_nothing_else_of_the_proxys(name: str) -> None:
    """Its only volume is that of the trust, which it cannot write; it is another user than the proxy, and not root."""
    services = compose(name)["services"]
    assert services["sandbox"]["volumes"] == ["trust:/trust:ro"]
    assert services["sandbox"]["user"] not in {"0:0", f"{UID}:{UID}"}
    with_state = {service for service, told in services.items() if "state:/var/lib/egress" in told.get("volumes", [])}
    assert with_state == {"egress", "trust"}


def test_the_sandboxs_only_network_has_no_way_out_and_no_host() -> None:
    """The proxy alone is on both."""
    told = compose("compose.yaml")
    networks = {name: set(service.get("networks", [])) for name, service in told["services"].items()}
    assert networks == {"egress": {"inside", "outside"}, "trust": set(), "sandbox": {"inside"}}
    assert told["networks"]["inside"] == {
        "internal": True,
        "driver_opts": {"com.docker.network.bridge.inhibit_ipv4": "true"},
    }


def test_in_the_shared_namespace_the_rules_come_first() -> None:
    """Each waits for the one before, and no restart of any takes the namespace away."""
    services = compose("sidecar.yaml")["services"]
    order = ["netns", "gateway", "egress", "trust", "sandbox"]
    assert list(services) == order
    for service, before in zip(order[1:], order, strict=False):
        assert list(services[service]["depends_on"]) == [before]
    assert services["egress"]["depends_on"]["gateway"]["condition"] == "service_completed_successfully"
    shared = [name for name in ("gateway", "egress", "sandbox") if services[name]["network_mode"] == "service:netns"]
    assert shared == ["gateway", "egress", "sandbox"]
    assert services["netns"]["user"] != f"{UID}:{UID}"


@pytest.mark.parametrize(
    ("name", "url"), [("compose.yaml", "http://egress:3128"), ("sidecar.yaml", "http://127.0.0.1:3128")]
)
def test_the_sandboxs_variables_are_those_that_egress_env_prints(name: str, url: str) -> None:
    """All of them, none besides."""
    assert dict(compose(name)["services"]["sandbox"]["environment"]) == dict(child_environment(url, *TRUST))


# kubernetes


def test_the_pods_containers_are_restricted() -> None:
    """As the Pod Security Standard `restricted` has it, but for the gateway, which has one capability and is root."""
    told = pod()
    for container in [*told["initContainers"], *told["containers"]]:
        context = container["securityContext"]
        gateway = container["name"] == "gateway"
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"], **({"add": ["NET_ADMIN"]} if gateway else {})}
        assert (context["runAsUser"] == 0) is gateway
        assert context["runAsNonRoot"] is not gateway
        assert {"limits", "requests"} == set(container["resources"])
    assert told["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [
        told[key] for key in ("automountServiceAccountToken", "hostNetwork", "hostPID", "shareProcessNamespace")
    ] == [False] * 4


def test_the_pods_rules_come_before_the_proxy_and_the_proxy_before_the_agent() -> None:
    """The proxy is a sidecar that is ready before what follows begins; probes run a command, and nothing listens."""
    told = pod()
    gateway, proxy, trust = told["initContainers"]
    assert [gateway["name"], proxy["name"], trust["name"]] == ["gateway", "egress", "trust"]
    assert proxy["restartPolicy"] == "Always"
    assert not {"restartPolicy"} & {*gateway, *trust}
    for probe in ("startupProbe", "readinessProbe"):
        assert proxy[probe]["exec"]["command"] == ["/opt/egress/bin/egress", "status", "--ready"]
    assert "--admin" not in proxy["args"]
    assert proxy["securityContext"]["runAsUser"] == UID


def shared() -> Iterator[tuple[str, list[str], list[str], int]]:
    """Of each namespace that is shared: the gateway's words, the proxy's, and the sandbox's user."""
    services = compose("sidecar.yaml")["services"]
    uid, _, _ = services["sandbox"]["user"].partition(":")
    yield "compose", services["gateway"]["command"], services["egress"]["command"], int(uid)
    gateway, proxy, _ = pod()["initContainers"]
    (agent,) = pod()["containers"]
    yield "kubernetes", gateway["args"], proxy["args"], agent["securityContext"]["runAsUser"]


@pytest.mark.parametrize(("name", "words", "proxy", "agent"), [*shared()])
def test_in_a_shared_namespace_all_are_confined_but_the_proxy(
    name: str, words: list[str], proxy: list[str], agent: int
) -> None:
    """By the rules themselves, as `egress gateway` writes them; and they lead to where the proxy listens."""
    assert words[0] == "up", name
    told = CliRunner().invoke(app, ["gateway", "print", *words[1:]])
    assert told.exit_code == 0, told.output
    gateway = Table(told.stdout).described()
    assert isinstance(gateway.confined, ThisHost)
    assert [gateway.confined.confines(uid) for uid in (0, agent, 65_534, UID)] == [True, True, True, False]
    listens = {option: proxy[proxy.index(option) + 1] for option in ("--transparent", "--dns")}
    assert listens == {"--transparent": f"127.0.0.1:{gateway.port}", "--dns": f"127.0.0.1:{gateway.dns_port}"}


def test_the_agent_mounts_neither_state_nor_credentials() -> None:
    """The Secret is the proxy's alone, mode 0400."""
    told = pod()
    mounted = {
        one["name"]: {mount["name"] for mount in one["volumeMounts"]}
        for one in [*told["initContainers"], *told["containers"]]
    }
    assert mounted["agent"] == {"trust", "work"}
    assert [name for name, volumes in mounted.items() if "credentials" in volumes] == ["egress"]
    volumes = {volume["name"]: volume for volume in told["volumes"]}
    assert volumes["credentials"]["secret"]["defaultMode"] == 0o400
    (agent,) = told["containers"]
    assert {"name": "trust", "mountPath": "/trust", "readOnly": True} in agent["volumeMounts"]
    assert {one["name"]: one["value"] for one in agent["env"]} == dict(
        child_environment("http://127.0.0.1:3128", *TRUST)
    )


def test_the_network_policy_denies_by_default() -> None:
    """Nobody in; out to names and to public addresses, and never to those of clouds and clusters."""
    spec = kubernetes("NetworkPolicy")["spec"]
    assert spec["podSelector"]["matchLabels"] == {"app": "agent"}
    assert (spec["policyTypes"], spec["ingress"]) == (["Ingress", "Egress"], [])
    _, public = spec["egress"]
    (block,) = [one["ipBlock"] for one in public["to"]]
    assert {"169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"} <= set(block["except"])
    assert {one["port"] for one in public["ports"]} == {80, 443}


# systemd


def test_the_unit_gives_the_proxy_no_privilege() -> None:
    """A user of its own, no capability, a read-only system, credentials by descriptor."""
    service = unit("egress.service")["Service"]
    assert (service["User"], service["CapabilityBoundingSet"], service["AmbientCapabilities"]) == ("egress", "", "")
    assert service["ProtectSystem"] == "strict"
    yes = (
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectKernelTunables",
        "RestrictNamespaces",
    )
    assert [service[key] for key in yes] == ["yes"] * len(yes)
    assert service["StateDirectoryMode"] == "0700"
    assert service["LoadCredential"].startswith("github:/etc/")
    assert service["KillMode"] == "mixed"
    assert f"u egress {UID} " in (DEPLOY / "systemd" / "egress.sysusers").read_text()


def test_the_rules_come_before_the_network_and_stay() -> None:
    """A unit that is stopped opens no road, and no proxy runs without the rules."""
    gateway, proxy = unit("egress-gateway.service"), unit("egress.service")
    assert {"network-pre.target", "egress.service"} <= set(gateway["Unit"]["Before"].split())
    assert "egress-gateway.service" in proxy["Unit"]["Requires"]
    assert "egress-gateway.service" in proxy["Unit"]["After"].split()
    service = gateway["Service"]
    assert (service["Type"], service["RemainAfterExit"]) == ("oneshot", "yes")
    assert not {"ExecStop", "ExecStopPost"} & set(service)
    assert service["CapabilityBoundingSet"] == "CAP_NET_ADMIN"
    # What flushes all rules when it starts must not do so afterwards.
    assert "nftables.service" in gateway["Unit"]["After"].split()
    assert gateway["Unit"]["PartOf"] == "nftables.service"


@pytest.mark.e2e
@pytest.mark.parametrize("there", [False, True], ids=["before its interface", "after it"])
def test_the_units_command_sets_the_rules(there: bool, tmp_path: Path) -> None:  # noqa: FBT001 -- a parameter
    """Whether the interface is there or not; and it fails where they could not be written."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from egress.cli.main import main; main()"
    program = tmp_path / "egress"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(code)} "$@"\n')
    program.chmod(0o755)
    told = unit("egress-gateway.service")["Service"]["ExecStart"].replace("$$", "$")
    machine = Machine("unit")
    try:
        if there:
            machine.ip("link", "add", "sandbox0", "type", "bridge")
            machine.ip("link", "set", "sandbox0", "up")
            machine.ip("addr", "add", "fd66::1/64", "dev", "sandbox0", "nodad")
        words = [word.replace("/opt/egress/bin/egress", str(program)) for word in shlex.split(told)]
        done = machine.run(words)
        assert done.returncode == 0, done.stderr
        found = machine.call(lambda: status("egress", None))
        assert found.differences == (() if there else ("missing: the interface sandbox0",))
        assert found.gateway is not None
        # The proxy listens on no address of IPv6, whether the interface has one or not.
        assert found.gateway.ipv6 is Ipv6.REJECT
        machine.nft("flush ruleset")
        assert machine.run([word.replace("--dns-port 5353", "--dns-port 0") for word in words]).returncode != 0
    finally:
        machine.close()


def test_the_units_configuration_loads(tmp_path: Path) -> None:
    """With its policy beside it; what it tells of itself is on a socket that its own user reaches."""
    for name in ("egress.yaml", "policy.yaml"):
        (tmp_path / name).write_text((DEPLOY / "systemd" / name).read_text())
    config = load_server_config(tmp_path / "egress.yaml", ServerOverrides(), {"EGRESS_STATE_DIR": str(tmp_path)})
    assert config.admin is not None
    assert config.admin.listen == UnixListener("/run/egress/admin.sock")


# all


def policies() -> Iterator[tuple[str, str]]:
    """Each policy that is shipped with a deployment."""
    for path in sorted(DEPLOY.rglob("policy.yaml")):
        yield str(path.relative_to(DEPLOY)), path.read_text()
    yield "kubernetes", kubernetes("ConfigMap")["data"]["policy.yaml"]


@pytest.mark.parametrize(("name", "text"), [*policies()])
def test_every_policy_loads_without_a_warning(name: str, text: str, tmp_path: Path) -> None:
    """And denies what it does not name."""
    (tmp_path / "policy.yaml").write_text(text)
    loaded = load_policy([PolicySource(Scope.SANDBOX, tmp_path / "policy.yaml")])
    assert loaded.warnings == (), name
    assert "default: deny" in text


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each call of `egress run` and of the one that gives the trust."""
    for name in COMPOSE:
        services = compose(name)["services"]
        yield name, ["run", *services["egress"]["command"]]
        yield from ((name, shlex.split(line)[1:]) for line in services["trust"]["command"][0].splitlines())
        yield name, services["egress"]["healthcheck"]["test"][2:]
    _, proxy, trust = pod()["initContainers"]
    yield "kubernetes", ["run", *proxy["args"]]
    yield from (("kubernetes", shlex.split(line)[1:]) for line in trust["args"][0].splitlines())
    yield "systemd", shlex.split(unit("egress.service")["Service"]["ExecStart"])[1:]


@pytest.mark.parametrize(("name", "words"), [*commands()])
def test_every_command_knows_its_options(name: str, words: list[str]) -> None:
    """What the files say is what the program takes."""
    group = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    told = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
    assert told.exit_code == 0, (name, told.output)
    options = {word for word in words if word.startswith("--")}
    known = set(re.findall(r"--[a-z][a-z-]*", re.sub(r"\x1b\[[0-9;]*m", "", told.output)))
    assert options - known <= BROUGHT


@pytest.mark.parametrize("document", sorted(DEPLOY.rglob("*.md")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_link_of_a_deployments_page_leads_somewhere(document: Path) -> None:
    """And every folder has a page."""
    targets = [document.parent / link.partition("#")[0] for link in links(document) if "://" not in link]
    assert [target for target in targets if not target.exists()] == []
    folders = {path.name for path in DEPLOY.iterdir() if path.is_dir()}
    assert {path.parent.name for path in DEPLOY.glob("*/README.md")} == folders
