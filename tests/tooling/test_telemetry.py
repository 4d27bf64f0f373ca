"""ONNX Runtime's telemetry, on by default in its wheels, is off in everything started from here.

It writes a device id before it sends anything, so the tests look for files; `CI` would disable it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "module", ["service.inference.session", "exporters", "evaluation", "training"]
)
def test_no_device_id_is_written(tmp_path: Path, module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        [sys.executable, "-c", f"import {module}, onnxruntime; onnxruntime.SessionOptions()"],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
