"""What deploy/ describes: manifests that Kubernetes' own schemas accept, and containers that may little."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ipc.credentials import SERVERS
from tests.e2e.processes import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
VERSIONS = ("1.28", "1.31", "1.34")
USER = 10001


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def pods() -> dict[str, dict[str, Any]]:
    """The pods of all manifests by role."""
    found = {}
    for path in MANIFESTS:
        for document in documents(path):
            pod = document if document["kind"] == "Pod" else document.get("spec", {}).get("template")
            if pod:
                found[pod["metadata"]["labels"]["role"]] = pod["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_fit_their_schemas(path: Path, version: str) -> None:
    """The validator brings the schemas with it, and knows no field that they do not."""
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_objects() -> None:
    document = documents(DEPLOY / "kubernetes" / "client.yaml")[0]
    document["spec"]["containers"][0]["readOnly"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)


def test_pods_may_little() -> None:
    assert pods().keys() == {*SERVERS, "client"}
    for role, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == USER
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        assert secrets == [f"farcall-{role}"]


def test_both_deployments_are_one() -> None:
    """The same commands, ports and variables in containers and in pods."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services.keys() == {"certs", *SERVERS, "client"}
    for role in SERVERS:
        (container,) = pods()[role]["containers"]
        assert services[role]["command"].replace("/state ", "/state/files ").split() == container["args"]
        assert {each["name"]: each["value"] for each in container["env"]} == services[role]["environment"]
        port = container["ports"][0]["containerPort"]
        assert f"0.0.0.0:{port}" in container["args"]
        assert services[role]["healthcheck"]["test"] == ["CMD", "farcall", "doctor", f"{role}:{port}"]
    (client,) = pods()["client"]["containers"]
    assert {each["name"]: each["value"] for each in client["env"]} == services["client"]["environment"]


def test_containers_may_little() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert "version" not in compose, "what Compose v2 calls obsolete"
    for name, service in compose["services"].items():
        assert service["user"] == f"{USER}:{USER}" and service["read_only"] is True
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "ports", "devices"} & service.keys()
        if name != "certs":
            assert f"tls-{name}:/tls:ro" in service["volumes"] and service["networks"] == ["servers"]
            assert sum(volume.startswith("tls-") for volume in service["volumes"]) == 1
    assert compose["networks"] == {"servers": {"internal": True}}
