"""deploy/helm: the chart lints, renders valid objects, by default those of deploy/kubernetes."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deployed_settings import find_unknown_names

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "sayso"
BASE = ROOT / "deploy" / "kubernetes" / "base"
MONITORING = ROOT / "deploy" / "kubernetes" / "monitoring"
GRAFANA = ROOT / "deploy" / "grafana"
OPERATOR_KINDS = {"ServiceMonitor", "PrometheusRule"}  # of the operator: no schema at hand

Document = dict[str, Any]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not on PATH: `go install helm.sh/helm/v3/cmd/helm@v3.22.0` builds it")
    return subprocess.run([helm, *arguments], capture_output=True, text=True, check=False)


def render(*values: str) -> dict[str, Document]:
    """The chart's objects by kind, as release `sayso` with `--set` of `values`."""
    settings = [part for value in values for part in ("--set", value)]
    rendered = run("template", "sayso", str(CHART), "--kube-version", "1.32.0", *settings)
    assert rendered.returncode == 0, rendered.stderr
    return {document["kind"]: document for document in yaml.safe_load_all(rendered.stdout)}


def container(objects: dict[str, Document]) -> Document:
    (one,) = objects["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return dict(one)


def environment(objects: dict[str, Document]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container(objects)["env"]}


def test_the_chart_lints() -> None:
    linted = run("lint", "--strict", str(CHART))
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_defaults_render_what_kustomize_has() -> None:
    rendered = render()
    paths = [path for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml"]
    documents = [yaml.safe_load(path.read_text()) for path in paths]
    base = {document["kind"]: document for document in documents}

    assert rendered.keys() == base.keys()
    image = container(rendered)["image"]
    for objects in (rendered, base):
        for one in objects["StatefulSet"]["spec"]["template"]["spec"]["containers"]:
            one.pop("image")
            one.pop("imagePullPolicy", None)
    versions = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert image == f"sayso:{versions[0]['newTag']}"
    for kind in base.keys() - {"ServiceAccount"}:
        assert rendered[kind]["spec"] == base[kind]["spec"], kind


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["tls.enabled=true"],
        ["cuda.enabled=true"],
        ["autoscaling.enabled=false", "replicas=2"],
        ["networkPolicy.enabled=false", "audit.storageClass=fast"],
        ["settings.SAYSO_LOG_LEVEL=debug"],
        [f"monitoring.{part}=true" for part in ("dashboard", "prometheusRule", "serviceMonitor")],
    ],
)
def test_objects_are_valid(values: list[str]) -> None:
    validating = pytest.importorskip("kubernetes_validate", reason="`make dev` installs it")
    objects = render(*values)
    for kind, document in objects.items():
        if kind not in OPERATOR_KINDS:
            validating.validate(document, "1.32", strict=True)
    assert not find_unknown_names(" ".join(environment(objects)))


def test_with_tls_nothing_is_plaintext_and_the_probes_run_the_command() -> None:
    objects = render("tls.enabled=true")
    assert "SAYSO_INSECURE" not in environment(objects)
    mounts = {mount["name"]: mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    for name in ("SAYSO_TLS_CERTIFICATE", "SAYSO_TLS_KEY", "SAYSO_CA"):
        assert environment(objects)[name].startswith(f"{mounts['tls']}/")
    for probe in ("startupProbe", "readinessProbe"):
        assert container(objects)[probe]["exec"]["command"] == ["sayso", "health"]
    assert "appProtocol" not in objects["Service"]["spec"]["ports"][0]


def test_replicas_are_set_only_without_an_autoscaler() -> None:
    assert "replicas" not in render()["StatefulSet"]["spec"]
    fixed = render("autoscaling.enabled=false", "replicas=2")
    assert fixed["StatefulSet"]["spec"]["replicas"] == 2
    assert "HorizontalPodAutoscaler" not in fixed


def test_a_gpu_server_asks_for_one_and_for_the_image_that_can_use_it() -> None:
    objects = render("cuda.enabled=true")
    assert environment(objects)["SAYSO_DEVICE"] == "cuda"
    assert container(objects)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container(objects)["image"].endswith("-cuda")


def test_an_arbitrary_uid_is_left_to_the_cluster() -> None:
    names = ("runAsUser", "runAsGroup", "fsGroup")
    objects = render(*(f"podSecurityContext.{name}=null" for name in names))
    context = objects["StatefulSet"]["spec"]["template"]["spec"]["securityContext"]
    assert not context.keys() & set(names)
    assert context["runAsNonRoot"] is True


def test_monitoring_carries_the_alerts_and_the_dashboard() -> None:
    objects = render("monitoring.prometheusRule=true", "monitoring.dashboard=true")
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert objects["PrometheusRule"]["spec"] == alerts
    dashboards = (ROOT / "deploy/grafana/dashboards").iterdir()
    expected = {path.name: path.read_text().rstrip("\n") for path in dashboards}
    assert objects["ConfigMap"]["data"] == expected


def test_monitoring_is_what_kustomize_has() -> None:
    parts = ("dashboard", "prometheusRule", "serviceMonitor")
    rendered = render(*(f"monitoring.{part}=true" for part in parts))
    for kind in ("ServiceMonitor", "PrometheusRule"):
        path = MONITORING / f"{kind.lower()}.yaml"
        assert rendered[kind]["spec"] == yaml.safe_load(path.read_text())["spec"], kind
    kustomization = yaml.safe_load((GRAFANA / "kustomization.yaml").read_text())
    (dashboard,) = kustomization["configMapGenerator"]
    assert rendered["ConfigMap"]["metadata"]["name"] == dashboard["name"]
    labels = rendered["ConfigMap"]["metadata"]["labels"]
    assert dashboard["options"]["labels"].items() <= labels.items()


@pytest.mark.parametrize("value", ["replica=3", "settings.PATH=/tmp", "secrets.store="])
def test_a_wrong_value_is_refused(value: str) -> None:
    refused = run("template", "sayso", str(CHART), "--set", value)
    assert refused.returncode != 0
    assert "values don't meet the specifications" in refused.stderr
