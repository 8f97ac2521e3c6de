"""The Kubernetes manifests, rendered by kubectl and compared with the schemas and the server."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.settings import PROJECT_ROOT, Settings, read_settings
from tests.support.tools import find_program, import_package

validator = import_package("kubernetes_validate")
yaml = import_package("yaml")

FOLDER = PROJECT_ROOT / "deploy/kubernetes"
COMPONENTS = sorted(folder.name for folder in (FOLDER / "components").iterdir())
WITHOUT_SCHEMA = {"ServiceMonitor"}
"""Of the Prometheus operator."""

Objects = dict[str, dict[str, Any]]


def _render(folder: Path) -> Objects:
    command = [find_program("kubectl"), "kustomize", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return {item["kind"]: item for item in yaml.safe_load_all(ended.stdout)}


def _render_with(component: str, folder: Path) -> Objects:
    base, part = (
        os.path.relpath(FOLDER / name, folder.resolve())
        for name in ("base", f"components/{component}")
    )
    overlay = {"resources": [base], "components": [part]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return _render(folder)


@pytest.fixture(scope="module")
def base() -> Objects:
    return _render(FOLDER / "base")


def _validate(objects: Objects, version: str) -> None:
    for kind, item in objects.items():
        if kind not in WITHOUT_SCHEMA:
            validator.validate(item, version, strict=True)


def _pod(objects: Objects) -> dict[str, Any]:
    pod: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return pod


def _assert_is_restricted(pod: dict[str, Any]) -> None:
    """Compare with the level "restricted" of the Pod Security Standards."""
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    kinds = {"configMap", "emptyDir", "persistentVolumeClaim", "image"}
    assert all(volume.keys() - {"name"} <= kinds for volume in pod["volumes"])
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"]


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_manifests_follow_the_schemas_of_the_oldest_and_the_newest_kubernetes(
    base: Objects, version: str
) -> None:
    _validate(base, version)
    _validate(_render(FOLDER / "overlays/gpu"), version)
    pod = yaml.safe_load((FOLDER / "components/weights-volume/weights-pod.yaml").read_text())
    _validate({"Pod": pod}, version)
    _assert_is_restricted(pod["spec"])


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_fits_the_base(component: str, tmp_path: Path) -> None:
    objects = _render_with(component, tmp_path)
    _validate(objects, "1.37")
    pod = _pod(objects)
    if component != "licence":  # which shows the hardware of the node to the pod
        _assert_is_restricted(pod)
    mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_every_object_means_the_same_pods_and_port(base: Objects, tmp_path: Path) -> None:
    objects = base | _render_with("servicemonitor", tmp_path)
    pods = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (port,) = _pod(objects)["containers"][0]["ports"]
    assert port["containerPort"] == Settings().port
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == pods
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert objects[kind]["spec"][key]["matchLabels"] == pods
    service = objects["Service"]
    assert service["spec"]["selector"] == pods
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    (policy,) = objects["NetworkPolicy"]["spec"]["ingress"]
    assert policy["ports"] == [{"port": port["name"]}]
    monitor = objects["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_times_of_the_pod_fit_those_of_the_server(base: Objects, tmp_path: Path) -> None:
    file = tmp_path / "classifyd.toml"
    file.write_text(base["ConfigMap"]["data"]["classifyd.toml"])
    settings = read_settings({}, default_config=file).settings
    pod = _pod(base)
    (container,) = pod["containers"]
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= pause_s + settings.grace_period_s + 10
    startup, liveness = container["startupProbe"], container["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > settings.start_timeout_s
    # Its own watchdog comes first.
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= settings.hang_timeout_s


def test_gpu_overlay_asks_for_a_gpu_and_runs_on_it() -> None:
    objects = _render(FOLDER / "overlays/gpu")
    assert "HorizontalPodAutoscaler" not in objects
    (container,) = _pod(objects)["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "CLASSIFYD_DEVICE", "value": "cuda"} in container["env"]
    _assert_is_restricted(_pod(objects))
