"""A tuned model served on the store of the model that it was made from: nobody enrolls again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sayso import Client

from service.contract import Contract
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from tests.support.local_server import LocalServer
from tests.support.made_speech import write_calls
from tests.support.voices import clips

RATE = 0.05  # the calls are of 24 made voices, some of them alike


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    calls = write_calls(folder)
    command = [sys.executable, "-m", "service", "tune", str(SHIPPED_MODEL), str(calls)]
    done = subprocess.run(
        [*command, "--output", str(folder / "out"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["tuned"] == str(folder / "out" / SHIPPED_MODEL.name)
    return Path(told["tuned"])


def read_contract(path: Path) -> Contract:
    return Session.open(path, device="cpu", threads=1).contract


def verify(sayso: Client, speaker: str) -> tuple[str, str, float | None]:
    told = sayso.verify("slt", clips(speaker, "verify-1")[0], target_false_match_rate=RATE)
    return told.outcome, told.model_id, told.llr


def test_a_voice_enrolled_before_is_verified_with_the_tuned_model(
    tuned: Path, tmp_path: Path
) -> None:
    model_id = read_contract(SHIPPED_MODEL).model_id
    address = f"sqlite:///{tmp_path / 'sayso.db'}"
    with LocalServer(store=address) as server, server.client() as sayso:
        for clip in clips("slt", "enroll"):
            assert sayso.enroll("slt", clip).stored
        before = {speaker: verify(sayso, speaker) for speaker in ("slt", "rms")}
    with LocalServer(store=address, model=tuned) as server, server.client() as sayso:
        after = {speaker: verify(sayso, speaker) for speaker in ("slt", "rms")}
        assert sayso.speakers.get("slt").model_ids == (model_id,)
        assert sayso.speakers.migration().stranded == 0
    for told in (before, after):
        assert {speaker: found[:2] for speaker, found in told.items()} == {
            "slt": ("ACCEPTED", model_id),
            "rms": ("REJECTED", model_id),
        }
    assert before["slt"][2] != after["slt"][2]


def test_only_what_was_tuned_differs(tuned: Path) -> None:
    own, changed = read_contract(SHIPPED_MODEL), read_contract(tuned)
    assert changed.model_id == own.model_id
    assert changed.calibration != own.calibration
    assert "operator's own calls" in changed.calibration.fitted_on
    assert changed.provenance["tuned"]["kept"]
