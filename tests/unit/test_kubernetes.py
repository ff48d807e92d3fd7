"""infra/k8s: valid by Kubernetes' own schemas, closed as the restricted pod standard wants it, and in step with the code."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from conductor_ai import names
from conductor_ai.settings import Settings
from conductor_ai.wiring.worker import GRACE
from infra.docs.source import ROOT

FOLDER = ROOT / "infra/k8s"
VERSIONS = ("1.29", "1.33", kubernetes_validate.utils.latest_version())
"""The schemas are part of the package: nothing is fetched."""
Manifest = dict[str, Any]


def manifests(folder: str = "base") -> list[Manifest]:
    """Every object of a folder that is no kustomization."""
    found: list[Manifest] = []
    for file in sorted((FOLDER / folder).glob("*.yaml")):
        if file.name != "kustomization.yaml":
            found += [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]
    return found


def named(one: Manifest) -> str:
    """How a test calls it."""
    return f"{one['kind']}-{one['metadata']['name']}"


PODS = [
    pytest.param(one["spec"]["template"]["spec"], id=named(one))
    for one in manifests()
    if one["kind"] in ("Deployment", "Job")
]
"""What runs: the pod specifications of jobs and deployments."""


def variables(pod: Manifest) -> dict[str, str]:
    """The environment of a pod's container, with the shared configuration."""
    shared: dict[str, str] = next(one for one in manifests() if one["kind"] == "ConfigMap")["data"]
    return shared | {item["name"]: item["value"] for item in pod["containers"][0].get("env", [])}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("one", [pytest.param(one, id=named(one)) for one in manifests() + manifests("temporal-cloud")])
def test_the_schema_of_kubernetes_accepts_it(one: Manifest, version: str) -> None:
    """Strictly: a field that Kubernetes does not know, because of its place or a slip, is an error."""
    kubernetes_validate.validate(one, version, strict=True)


def test_a_slip_would_be_found() -> None:
    """The checker is not content with everything."""
    wrong: Manifest = next(one for one in manifests() if one["kind"] == "Deployment")
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", ["base", "keda", "temporal-cloud"])
def test_every_file_is_part_of_its_kustomization(folder: str) -> None:
    """What a kustomization names is there, and what is there is named."""
    found = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text(encoding="utf-8"))
    listed = {*found.get("resources", []), *(patch["path"] for patch in found.get("patches", []))}
    assert {file.name for file in (FOLDER / folder).glob("*.yaml")} - {"kustomization.yaml"} == listed - {"../base"}
    assert folder == "base" or "../base" in listed


@pytest.mark.parametrize("pod", PODS)
def test_pods_are_as_the_restricted_standard_wants_them(pod: Manifest) -> None:
    """No root, no capabilities, no new privileges, the runtime's seccomp profile, a read-only root, no token, limits."""
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 10001, "the user of the image"
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in pod["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "secret", "emptyDir"}


@pytest.mark.parametrize("pod", PODS)
def test_secrets_are_files_where_the_settings_look(pod: Manifest) -> None:
    """They are mounted where CONDUCTOR_SECRETS_DIR points, are read by the group, and are in no variable."""
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["secrets"] == variables(pod)["CONDUCTOR_SECRETS_DIR"]
    assert next(volume for volume in pod["volumes"] if volume["name"] == "secrets")["secret"]["defaultMode"] == 0o440
    secret = {field.alias for field in Settings.model_fields.values() if "SecretStr" in str(field.annotation)}
    assert not secret & set(variables(pod))


@pytest.mark.parametrize("pod", PODS)
def test_only_settings_that_exist_are_set(pod: Manifest) -> None:
    """Names of variables are those of the settings, and their values are possible."""
    known = {field.alias: name for name, field in Settings.model_fields.items()}
    given = variables(pod)
    assert set(given) <= set(known)
    Settings.model_validate({known[name]: value for name, value in given.items() if name != "CONDUCTOR_SECRETS_DIR"})


def test_workers_are_given_time_to_finish() -> None:
    """The grace period of the pod is longer than the worker's own, which is longer than nothing."""
    grace = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for one in manifests()
        if one["kind"] == "Deployment"
    }
    assert grace["conductor-worker"] >= GRACE.total_seconds() + 10
    api = (ROOT / "conductor_ai/wiring/serving.py").read_text(encoding="utf-8")
    shutdown = int(re.findall(r"timeout_graceful_shutdown=(\d+)", api)[0])
    assert grace["conductor-api"] >= shutdown + 5 + 5, "the wait before it, and some seconds to spare"


def test_the_scaler_watches_the_queue_and_version_of_the_workers() -> None:
    """KEDA's schema is not part of the checker: what it needs is looked at here."""
    (scaler,) = manifests("keda")
    worker = next(one for one in manifests() if named(one) == "Deployment-conductor-worker")
    given = variables(worker["spec"]["template"]["spec"])
    (trigger,) = scaler["spec"]["triggers"]
    assert (scaler["apiVersion"], scaler["kind"], trigger["type"]) == ("keda.sh/v1alpha1", "ScaledObject", "temporal")
    assert scaler["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    assert 0 < scaler["spec"]["minReplicaCount"] < scaler["spec"]["maxReplicaCount"]
    metadata = trigger["metadata"]
    assert all(isinstance(value, str) for value in metadata.values()), "KEDA takes text alone"
    assert metadata["taskQueue"] == names.TASK_QUEUE
    assert metadata["endpoint"] == given["TEMPORAL_ADDRESS"]
    assert metadata["namespace"] == given["TEMPORAL_NAMESPACE"]
    assert metadata["workerDeploymentName"] == given["CONDUCTOR_DEPLOYMENT_NAME"]
    assert metadata["workerDeploymentBuildId"] == given["CONDUCTOR_BUILD_ID"]


def test_probes_are_routes_of_the_api() -> None:
    """The paths exist."""
    routes = (ROOT / "api/health.py").read_text(encoding="utf-8")
    text = Path(FOLDER / "base/api.yaml").read_text(encoding="utf-8")
    paths = set(re.findall(r"path: (/\w+)", text))
    assert paths == {"/livez", "/readyz"}
    assert all(f'@router.get("{path}"' in routes for path in paths)
