"""The endpoint of one process, and that of several worker processes."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from service.errors import SettingsError
from service.observability.exposition import FOLDER_VARIABLE, serve_metrics
from service.observability.metrics import count_unreadable

ROOT = Path(__file__).resolve().parents[3]

_WORKER = """
import os, sys
from service.observability import metrics
metrics.count_unreadable()
metrics.set_queue("m", 3)
metrics.set_ready(sys.argv[1] == "ready")
print(os.getpid(), flush=True)
sys.stdin.read()
"""

_PARENT = """
import os, subprocess, sys, tempfile
from urllib.request import urlopen
from service.observability.exposition import FOLDER_VARIABLE, forget_worker, serve_metrics
os.environ[FOLDER_VARIABLE] = sys.argv[1]
workers = [
    subprocess.Popen([sys.executable, "-c", sys.argv[2], health], stdin=-1, stdout=-1, text=True)
    for health in ("ready", "away")
]
pids = [int(worker.stdout.readline()) for worker in workers]
with serve_metrics("127.0.0.1:0") as address:
    read = lambda: urlopen(f"http://{address}/metrics").read().decode()
    print(read())
    print("=====")
    workers[1].communicate()
    forget_worker(pids[1])
    print(read())
workers[0].communicate()
"""


def lines(text: str) -> set[str]:
    return {line for line in text.splitlines() if not line.startswith("#")}


def test_the_metrics_of_this_process() -> None:
    count_unreadable()
    with serve_metrics("127.0.0.1:0") as address, urlopen(f"http://{address}/metrics") as answer:
        text = answer.read().decode()
    assert "# TYPE sayso_store_unreadable_records_total counter" in text
    assert "process_resident_memory_bytes" in text
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://{address}/metrics")


def test_the_metrics_of_all_workers_at_one_endpoint(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _PARENT, str(tmp_path), _WORKER],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    both, one = map(lines, told.split("====="))
    assert "sayso_store_unreadable_records_total 2.0" in both
    assert 'sayso_queue_windows{model_id="m"} 6.0' in both
    assert "sayso_ready 0.0" in both
    assert "sayso_store_unreadable_records_total 2.0" in one
    assert 'sayso_queue_windows{model_id="m"} 3.0' in one
    assert "sayso_ready 1.0" in one


@pytest.mark.parametrize("listen", ["9464", "localhost:metrics", ":9464"])
def test_an_address_that_is_none(listen: str) -> None:
    with pytest.raises(SettingsError, match="host:port"), serve_metrics(listen):
        pass


def test_an_address_in_use() -> None:
    assert FOLDER_VARIABLE not in os.environ
    with (
        serve_metrics("127.0.0.1:0") as address,
        pytest.raises(SettingsError, match="another server"),
        serve_metrics(address),
    ):
        pass
