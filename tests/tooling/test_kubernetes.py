"""deploy/kubernetes follows Kubernetes' schemas and agrees with the server, image and itself."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sayso
import yaml

from service.inference.session import CPU_BATCH
from tests.support.declared_metrics import list_metrics
from tests.support.deployed_settings import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
GRAFANA = ROOT / "deploy" / "grafana"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
OPERATOR_KINDS = {"ServiceMonitor", "PrometheusRule"}  # of the operator: no schema at hand
PAGE = ROOT / "docs" / "operate" / "kubernetes.md"
FILES = sorted(FOLDER.rglob("*.yaml"))
VERSIONS = ["1.32", "1.35", "1.37"]
LISTEN_PORT = int(DEFAULTS["listen"].default.rpartition(":")[2])
_WORKER_EXIT_S = 10

Document = dict[str, Any]
Validate = Callable[[Document, str], None]


def read(path: Path) -> Document:
    document: Document = yaml.safe_load(path.read_text())
    return document


BASE = {read(path)["kind"]: read(path) for path in FILES if path.parent.name == "base"}
SERVER = BASE["StatefulSet"]["spec"]
POD = SERVER["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = SERVER["template"]["metadata"]["labels"].items()
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
ENVIRONMENT = {variable["name"]: variable for variable in CONTAINER["env"]}


@pytest.fixture(scope="module")
def validate() -> Validate:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")

    def validate(document: Document, version: str) -> None:
        kubernetes_validate.validate(document, version, strict=True)

    return validate


@pytest.mark.parametrize("version", VERSIONS)
def test_its_schema_allows_each_document(validate: Validate, version: str) -> None:
    for document in BASE.values():
        if document["kind"] != "Kustomization":
            validate(document, version)


def test_a_schema_is_strict(validate: Validate) -> None:
    service = BASE["Service"]
    wrong = {**service, "spec": {**service["spec"], "clusterIPP": "None"}}
    with pytest.raises(Exception, match="clusterIPP"):
        validate(wrong, VERSIONS[-1])


def kustomize(folder: Path, components: list[str]) -> Iterator[Document]:
    """The documents that `kubectl kustomize` makes of the base with these components."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on PATH")
    for part in (FOLDER, GRAFANA):
        shutil.copytree(part, folder / part.name)
    top = {"resources": ["base"], "components": components}
    (folder / "kubernetes" / "kustomization.yaml").write_text(yaml.safe_dump(top))
    made = subprocess.run(
        [kubectl, "kustomize", folder / "kubernetes"], capture_output=True, text=True, check=True
    )
    yield from yaml.safe_load_all(made.stdout)


@pytest.mark.parametrize(
    "components",
    [[], ["tls"], ["cuda"], ["openshift"], ["tls", "cuda", "monitoring", "openshift"]],
)
def test_its_schema_allows_what_kustomize_makes(
    validate: Validate, tmp_path: Path, components: list[str]
) -> None:
    made = list(kustomize(tmp_path, components))
    kinds = {document["kind"] for document in made}
    assert kinds >= BASE.keys() - {"Kustomization"}
    assert (kinds >= OPERATOR_KINDS) == ("monitoring" in components)
    for document in made:
        if document["kind"] not in OPERATOR_KINDS:
            validate(document, VERSIONS[-1])


def test_monitoring_carries_the_alerts_and_the_dashboard(tmp_path: Path) -> None:
    made = {document["kind"]: document for document in kustomize(tmp_path, ["monitoring"])}
    alerts = yaml.safe_load(ALERTS.read_text())
    assert made["PrometheusRule"]["spec"] == alerts, "make prometheus-rule"
    dashboards = {path.name: path.read_text() for path in (GRAFANA / "dashboards").iterdir()}
    assert made["ConfigMap"]["data"] == dashboards


def test_on_openshift_the_cluster_chooses_the_user(tmp_path: Path) -> None:
    documents = kustomize(tmp_path, ["openshift"])
    (server,) = (document for document in documents if document["kind"] == "StatefulSet")
    context = server["spec"]["template"]["spec"]["securityContext"]
    assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup"}
    assert context["runAsNonRoot"] is True


def test_with_tls_plaintext_is_off_and_the_probes_use_tls(tmp_path: Path) -> None:
    documents = kustomize(tmp_path, ["tls"])
    (server,) = (document for document in documents if document["kind"] == "StatefulSet")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    assert "SAYSO_INSECURE" not in environment
    for probe in (container["startupProbe"], container["readinessProbe"]):
        assert probe["exec"]["command"] == ["sayso", "health"]
        assert "grpc" not in probe
    (folder,) = [
        mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tls"
    ]
    for name in ("SAYSO_TLS_CERTIFICATE", "SAYSO_TLS_KEY", "SAYSO_CA"):
        assert environment[name].startswith(f"{folder}/")
    assert int(environment["SAYSO_SERVER"].rpartition(":")[2]) == PORTS["grpc"]


def test_ports_are_those_of_the_server() -> None:
    assert PORTS["grpc"] == LISTEN_PORT
    assert ENVIRONMENT["SAYSO_METRICS_LISTEN"]["value"].endswith(f":{PORTS['metrics']}")
    for port in BASE["Service"]["spec"]["ports"]:
        assert PORTS[port["targetPort"]] == port["port"]
    for rule in BASE["NetworkPolicy"]["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= PORTS.keys()
    assert CONTAINER["startupProbe"]["grpc"]["port"] == PORTS["grpc"]
    assert CONTAINER["readinessProbe"]["grpc"]["port"] == PORTS["grpc"]
    assert CONTAINER["livenessProbe"]["tcpSocket"]["port"] in PORTS
    (endpoint,) = read(FOLDER / "monitoring" / "servicemonitor.yaml")["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in BASE["Service"]["spec"]["ports"]}


def test_every_selector_finds_the_server() -> None:
    spread = POD["topologySpreadConstraints"]
    selectors = [
        SERVER["selector"]["matchLabels"],
        BASE["Service"]["spec"]["selector"],
        BASE["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        BASE["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ]
    assert all(selector.items() <= LABELS for selector in selectors)
    monitored = read(FOLDER / "monitoring" / "servicemonitor.yaml")["spec"]["selector"]
    assert monitored["matchLabels"].items() <= BASE["Service"]["metadata"]["labels"].items()
    assert SERVER["serviceName"] == BASE["Service"]["metadata"]["name"]


def test_it_scales_on_two_batches_a_thread_of_a_metric_that_exists() -> None:
    scaler = BASE["HorizontalPodAutoscaler"]["spec"]
    target = scaler["scaleTargetRef"]
    assert target["name"] == BASE[target["kind"]]["metadata"]["name"]
    (queue,) = (metric["pods"] for metric in scaler["metrics"] if metric["type"] == "Pods")
    assert queue["metric"]["name"] in {
        metric.name for metric in list_metrics() if metric.kind == "gauge"
    }
    assert queue["metric"]["name"] in PAGE.read_text(), "the adapter's rule"
    threads = int(CONTAINER["resources"]["requests"]["cpu"])
    assert int(queue["target"]["averageValue"]) == 2 * CPU_BATCH * threads
    assert "replicas" not in SERVER, "the autoscaler owns their number"
    assert scaler["minReplicas"] > BASE["PodDisruptionBudget"]["spec"]["maxUnavailable"]


def test_calls_in_progress_have_time_to_end() -> None:
    before_s = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(ENVIRONMENT["SAYSO_DRAIN_S"]["value"])
    assert POD["terminationGracePeriodSeconds"] >= before_s + drain_s + _WORKER_EXIT_S


def test_every_path_in_the_settings_is_mounted() -> None:
    mounts = [mount["mountPath"] for mount in CONTAINER["volumeMounts"]]
    paths = [
        variable["value"]
        for variable in CONTAINER["env"]
        if variable.get("value", "").startswith("/")
    ]
    assert paths
    assert all(any(path.startswith(f"{mount}/") for mount in mounts) for path in paths)


def test_the_image_is_of_this_version() -> None:
    tags = {"base": sayso.__version__, "cuda": f"{sayso.__version__}-cuda"}
    for folder, tag in tags.items():
        (image,) = read(FOLDER / folder / "kustomization.yaml")["images"]
        assert image == {"name": CONTAINER["image"], "newTag": tag}
