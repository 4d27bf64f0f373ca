"""deploy/kubernetes: to Kubernetes' schemas, and of one mind with the server and with itself."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from service.inference.session import CPU_BATCH
from service.observability import metrics
from service.store.redis.address import Address, Mode
from tests.support.deployed_settings import DEFAULTS, unknown

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
VERSIONS = ["1.32", "1.35", "1.37"]
LISTEN_PORT = int(DEFAULTS["listen"].default.rpartition(":")[2])
_WORKER_EXIT_S = 10

Document = dict[str, Any]


def read(path: Path) -> Document:
    document: Document = yaml.safe_load(path.read_text())
    return document


BASE = {read(path)["kind"]: read(path) for path in FILES if path.parent.name == "base"}
SERVER = BASE["StatefulSet"]["spec"]
POD = SERVER["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = SERVER["template"]["metadata"]["labels"].items()
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
ENVIRONMENT = {each["name"]: each for each in CONTAINER["env"]}


@pytest.fixture(scope="module")
def validate() -> Callable[[Document, str], None]:
    validating = pytest.importorskip("kubernetes_validate", reason="`make dev` installs it")

    def valid(document: Document, version: str) -> None:
        validating.validate(document, version, strict=True)

    return valid


@pytest.mark.parametrize("version", VERSIONS)
def test_each_document_is_what_its_schema_allows(
    validate: Callable[[Document, str], None], version: str
) -> None:
    for document in BASE.values():
        if document["kind"] != "Kustomization":
            validate(document, version)


def test_a_schema_is_strict(validate: Callable[[Document, str], None]) -> None:
    service = BASE["Service"]
    wrong = {**service, "spec": {**service["spec"], "clusterIPP": "None"}}
    with pytest.raises(Exception, match="clusterIPP"):
        validate(wrong, VERSIONS[-1])


@pytest.mark.parametrize("parts", [[], ["tls"], ["cuda"], ["tls", "cuda", "monitoring"]])
def test_what_kustomize_makes_of_it_is_valid(
    validate: Callable[[Document, str], None], tmp_path: Path, parts: list[str]
) -> None:
    made = list(built(tmp_path, parts))
    kinds = {document["kind"] for document in made}
    assert kinds >= BASE.keys() - {"Kustomization"}
    assert ("ServiceMonitor" in kinds) == ("monitoring" in parts)
    for document in made:
        if document["kind"] != "ServiceMonitor":
            validate(document, VERSIONS[-1])


def test_with_tls_the_probes_speak_it_and_plaintext_is_refused(tmp_path: Path) -> None:
    (server,) = (made for made in built(tmp_path, ["tls"]) if made["kind"] == "StatefulSet")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value", "") for each in container["env"]}
    assert "SAYSO_INSECURE" not in environment
    assert "SAYSO_STORE" in environment
    for probe in (container["startupProbe"], container["readinessProbe"]):
        assert probe["exec"]["command"] == ["sayso", "health"]
        assert "grpc" not in probe
    (folder,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == "tls"]
    for name in ("SAYSO_TLS_CERTIFICATE", "SAYSO_TLS_KEY", "SAYSO_CA"):
        assert environment[name].startswith(f"{folder}/")
    assert int(environment["SAYSO_SERVER"].rpartition(":")[2]) == PORTS["grpc"]


def built(folder: Path, parts: list[str]) -> Iterator[Document]:
    """What `kubectl kustomize` makes of the base with components."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on PATH")
    shutil.copytree(FOLDER, folder / "kubernetes")
    top = {"resources": ["base"], "components": parts}
    (folder / "kubernetes" / "kustomization.yaml").write_text(yaml.safe_dump(top))
    made = subprocess.run(
        [kubectl, "kustomize", folder / "kubernetes"], capture_output=True, text=True, check=True
    )
    yield from yaml.safe_load_all(made.stdout)


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name == "kustomization.yaml"], ids=str
)
def test_every_file_is_listed_once_and_every_listed_file_is_there(path: Path) -> None:
    listed = read(path)
    names = [*listed.get("resources", []), *(each["path"] for each in listed.get("patches", []))]
    beside = {each.name for each in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(name for name in names if name.endswith(".yaml")) == sorted(beside)
    folders = [*names, *listed.get("components", [])]
    assert all((path.parent / name).exists() for name in folders)


def test_every_component_can_be_switched_on() -> None:
    offered = set(re.findall(r"^  #? ?- (\w+)$", (FOLDER / "kustomization.yaml").read_text(), re.M))
    components = {path.parent.name for path in FILES if read(path)["kind"] == "Component"}
    assert offered == components | {"base"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_patch_meets_what_it_patches_and_settings_exist(path: Path) -> None:
    assert unknown(path.read_text()) == set()
    document = read(path)
    if path.parent.name in ("tls", "cuda") and path.name != "kustomization.yaml":
        assert document["metadata"]["name"] == BASE[document["kind"]]["metadata"]["name"]


def test_no_secret_is_written_here_and_each_one_needed_is_told_of() -> None:
    assert not any(read(path)["kind"] == "Secret" for path in FILES)
    named = re.findall(r"secretName: (\S+)|name: (sayso-\S+)", "".join(map(Path.read_text, FILES)))
    told = (ROOT / "docs" / "deploy.md").read_text()
    for secret in {one or other for one, other in named}:
        assert f"create secret generic {secret}" in told or f"`{secret}`" in told


def test_the_pod_has_no_rights() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert BASE["ServiceAccount"]["automountServiceAccountToken"] is False
    assert POD["serviceAccountName"] == BASE["ServiceAccount"]["metadata"]["name"]
    image = (ROOT / "Dockerfile").read_text()
    user = POD["securityContext"]["runAsUser"]
    assert f"USER {user}:{POD['securityContext']['runAsGroup']}" in image
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = CONTAINER["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


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
    budget, policy = BASE["PodDisruptionBudget"]["spec"], BASE["NetworkPolicy"]["spec"]
    selectors = [
        SERVER["selector"]["matchLabels"],
        BASE["Service"]["spec"]["selector"],
        budget["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in POD["topologySpreadConstraints"]),
    ]
    assert all(selector.items() <= LABELS for selector in selectors)
    monitored = read(FOLDER / "monitoring" / "servicemonitor.yaml")["spec"]["selector"]
    assert monitored["matchLabels"].items() <= BASE["Service"]["metadata"]["labels"].items()
    assert SERVER["serviceName"] == BASE["Service"]["metadata"]["name"]


def test_it_scales_on_a_metric_that_there_is_and_by_two_batches_a_thread() -> None:
    scaler = BASE["HorizontalPodAutoscaler"]["spec"]
    target = scaler["scaleTargetRef"]
    found = BASE[target["kind"]]
    assert (target["apiVersion"], target["name"]) == (
        found["apiVersion"],
        found["metadata"]["name"],
    )
    (queue,) = (each["pods"] for each in scaler["metrics"] if each["type"] == "Pods")
    gauges = [each for each in vars(metrics).values() if isinstance(each, prometheus_client.Gauge)]
    assert queue["metric"]["name"] in {sample.name for each in gauges for sample in each.collect()}
    threads = int(CONTAINER["resources"]["requests"]["cpu"])
    assert int(queue["target"]["averageValue"]) == 2 * CPU_BATCH * threads
    assert scaler["minReplicas"] == SERVER["replicas"]
    assert scaler["minReplicas"] > BASE["PodDisruptionBudget"]["spec"]["maxUnavailable"]
    adapter = (ROOT / "docs" / "deploy.md").read_text()
    assert queue["metric"]["name"] in adapter


def test_calls_in_progress_have_the_time_to_end() -> None:
    before_s = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(ENVIRONMENT["SAYSO_DRAIN_S"]["value"])
    assert POD["terminationGracePeriodSeconds"] >= before_s + drain_s + _WORKER_EXIT_S


def test_every_path_that_is_set_is_mounted() -> None:
    claims = {each["metadata"]["name"] for each in SERVER["volumeClaimTemplates"]}
    volumes = {each["name"] for each in POD["volumes"]} | claims
    mounts = {each["mountPath"]: each["name"] for each in CONTAINER["volumeMounts"]}
    assert set(mounts.values()) == volumes
    paths = [each["value"] for each in CONTAINER["env"] if each.get("value", "")[:1] == "/"]
    assert paths
    assert all(any(path.startswith(f"{mount}/") for mount in mounts) for path in paths)


def test_the_address_that_the_document_gives_is_one_and_its_roots_are_mounted() -> None:
    (url,) = re.findall(r"url='([^']+)'", (ROOT / "docs" / "deploy.md").read_text())
    address = Address.parse(url)
    assert address.mode is Mode.CLUSTER
    assert address.username == "sayso"
    (mount,) = [each for each in CONTAINER["volumeMounts"] if each["name"] == "store-ca"]
    assert address.tls == {"ssl": True, "ssl_ca_certs": f"{mount['mountPath']}/ca.crt"}


def test_the_image_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for folder, tag in (("base", version), ("cuda", f"{version}-cuda")):
        (image,) = read(FOLDER / folder / "kustomization.yaml")["images"]
        assert image == {"name": CONTAINER["image"], "newTag": tag}
