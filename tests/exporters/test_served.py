"""Resemblyzer adopted, calibrated, served by the real server, and asked over gRPC."""

import asyncio
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evaluation.experiments.request import Request
from exporters.errors import ExportError
from exporters.publish import publish
from exporters.sources import adopt
from exporters.tuning import calibrate
from exporters.voices import SHARED_DATA
from tests.support.local_server import LocalServer
from tests.support.voices import clips

SPEAKERS = ("awb", "rms", "slt")


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adopted") / "resemblyzer.onnx"
    try:
        with adopt.make_candidate(adopt.Request("resemblyzer")) as candidate:
            publish(candidate, path)
    except ExportError as error:
        pytest.skip(error.message)
    return path


@pytest.fixture(scope="module")
def server(adopted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("store")
    with LocalServer(
        store=f"sqlite:///{folder / 'sayso.db'}", model=adopted, allow_uncalibrated=True
    ) as running:
        yield running


def test_a_voice_is_closest_to_itself(server: LocalServer) -> None:
    with server.client() as sayso:
        known = {name: sayso.embed(clips(name, "enroll")[0]) for name in SPEAKERS}
        for name in SPEAKERS:
            heard = sayso.embed(clips(name, "verify")[0])
            assert heard is not None
            assert heard.model_id.startswith("resemblyzer-")
            assert len(heard.values) == 256
            cosines = {who: sayso.compare(heard, voice) for who, voice in known.items() if voice}
            assert max(cosines, key=lambda who: cosines[who]) == name


@pytest.fixture(scope="module")
def dev_speech() -> dict[str, list[Path]]:
    """Real clips of over 3 s by speaker, from the shared corpora's dev split."""
    manifest = SHARED_DATA.parent / "manifest.csv"
    if not manifest.is_file():
        pytest.skip("no ../shared/data beside the checkout")
    by_speaker: dict[str, list[Path]] = {}
    with manifest.open() as file:
        for row in csv.DictReader(file):
            told = (row["split"], row["corpus"])
            if told == ("dev", "speechocean762") and float(row["seconds"]) > 3:
                by_speaker.setdefault(row["speaker"], []).append(manifest.parent / row["path"])
    return {who: paths[:4] for who, paths in sorted(by_speaker.items()) if len(paths) >= 4}


def test_enrol_and_verify_real_speech(
    adopted: Path, dev_speech: dict[str, list[Path]], tmp_path: Path
) -> None:
    """Calibrated on 24 speakers, asked about six others."""
    speakers = list(dev_speech)
    assert len(speakers) >= 30
    fitted_on, asked = speakers[:24], speakers[24:30]
    manifest = tmp_path / "manifest.csv"
    rows = [[path, who, "dev"] for who in fitted_on for path in dev_speech[who][:3]]
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "speaker", "split"], *rows])
    request = Request(
        model=adopted, manifest=manifest, split="dev", listed=None, audio=None, cache=None
    )
    fitted = asyncio.run(calibrate.fit(request))
    model = tmp_path / "calibrated.onnx"
    calibrate.write(adopted, fitted, model)
    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    with (
        LocalServer(store=store, model=model, lock_after_failures=0) as server,
        server.client() as sayso,
    ):
        for who in asked:
            for path in dev_speech[who][:3]:
                assert sayso.enroll(who, path).stored
        llrs = np.array(
            [[sayso.verify(claimed, dev_speech[who][3]).llr for claimed in asked] for who in asked],
            dtype=float,
        )
    assert np.isfinite(llrs).all()
    right = (llrs.argmax(axis=1) == np.arange(len(asked))).sum()
    assert right >= 5
    assert np.diag(llrs).mean() > llrs[~np.eye(len(asked), dtype=bool)].mean() + 1
