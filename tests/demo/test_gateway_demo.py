"""`make demo-gateway`: three calls are decided, and webhooks of their ends come back."""

import subprocess
import sys

import pytest

from tests.support.sayso_server import ROOT


@pytest.mark.slow
def test_three_calls_and_their_webhooks() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "demo.gateway"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(": ACCEPTED, decision ") == 3
    assert ran.stdout.count("its signature verified: dev.sayso.call.ended of slt, ACCEPTED") == 3
