"""What a real server shows of its calls: metrics, JSON logs, and the drift of its scores."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sayso import InvalidArgument
from typer.testing import CliRunner

from service.commands.application import app
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

ENROL, VERIFY = clips("slt", "enroll")[0], clips("slt", "verify")[0]
CALLS = 5
CALL = {"grpc_service": "sayso.v1.VerificationService"}


@pytest.fixture(scope="module", params=[1, 2], ids=["process", "workers"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SaysoServer]:
    """One that has enrolled once, verified three times and refused a call."""
    folder = tmp_path_factory.mktemp("sight")
    settings = {"log_format": "json", "metrics_listen": "127.0.0.1:0", "workers": request.param}
    with SaysoServer(store=f"sqlite:///{folder / 'sayso.db'}", **settings) as running:
        with running.client() as sayso:
            sayso.enroll("slt", ENROL)
        for _ in range(2):
            with running.client() as sayso:
                sayso.verify("slt", VERIFY)
        with running.client() as sayso:
            sayso.verify("nobody", VERIFY)
            with pytest.raises(InvalidArgument):
                sayso.verify("slt", b"no audio")
        deadline = time.monotonic() + 20.0  # a refusal is sent before it is written down
        while len(called(running)) < CALLS:
            assert time.monotonic() < deadline, running.log
            time.sleep(0.02)
        yield running


def called(server: SaysoServer) -> list[dict[str, object]]:
    lines = (json.loads(line) for line in server.log.splitlines())
    return [line for line in lines if "method" in line]


@pytest.fixture
def endpoint(server: SaysoServer) -> str:
    return server.metrics_url


def test_the_log_is_one_json_object_a_line(server: SaysoServer) -> None:
    calls = called(server)
    assert [line["code"] for line in calls] == ["OK"] * 4 + ["INVALID_ARGUMENT"]
    assert len({line["request_id"] for line in calls}) == CALLS


def test_the_metrics_tell_what_was_called(endpoint: str) -> None:
    with urlopen(endpoint) as answer:  # noqa: S310 - the server's own
        families = list(text_string_to_metric_families(answer.read().decode()))
    values = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(v for (n, has), v in values.items() if n == name and wanted <= has)

    assert value("grpc_server_handled_total", grpc_code="OK", grpc_method="Enroll", **CALL) == 1
    assert value("grpc_server_handled_total", grpc_method="Verify", grpc_code="OK", **CALL) == 3
    assert value("grpc_server_handled_total", grpc_code="InvalidArgument", **CALL) == 1
    assert value("sayso_open_calls") == 0
    assert value("sayso_decisions_total", outcome="ACCEPTED") == 2
    assert value("sayso_decisions_total", outcome="NOT_ENROLLED") == 1
    assert value("sayso_decision_llr_bucket", le="+Inf") == 2
    assert value("sayso_enrolments_total") == 1
    assert value("sayso_batch_windows_sum") >= 3
    assert value("sayso_store_seconds_count", operation="get") >= 1
    assert value("sayso_store_seconds_count", operation="get_with_failures") >= 3
    assert value("sayso_ready") == 1


def test_the_drift_of_a_server_is_told(endpoint: str, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["drift", "--metrics", endpoint, "--most", "1"])
    assert told.exit_code == 0, told.output
    assert "accepted: 2 calls" in told.output
    assert "drift 0." in told.output
    with urlopen(endpoint) as answer:  # noqa: S310 - the server's own
        (tmp_path / "metrics.txt").write_bytes(answer.read())
    again = CliRunner().invoke(app, ["drift", "--metrics", str(tmp_path / "metrics.txt")])
    assert again.exit_code in (0, 1)
    assert told.output.splitlines()[-2:] == again.output.splitlines()[-2:]


def test_drift_says_what_it_cannot_read(tmp_path: Path) -> None:
    for text, hint in (("", "no decided calls"), ("what is {{ this", "text format")):
        (tmp_path / "metrics.txt").write_text(text)
        told = CliRunner().invoke(app, ["drift", "--metrics", str(tmp_path / "metrics.txt")])
        assert told.exit_code == 2
        assert hint in " ".join(told.output.split())
