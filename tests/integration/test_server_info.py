"""What a client can learn of a server before it sends audio."""

from pathlib import Path

import pytest
import sayso

from tests.support.local_server import LocalServer


@pytest.mark.parametrize("lockout", [0, 5])
def test_a_client_learns_models_limits_and_features(tmp_path: Path, lockout: int) -> None:
    settings = {"max_call_s": 77.0, "min_enroll_speech_s": 3.0, "lock_after_failures": lockout}
    store = f"sqlite:///{tmp_path}/sayso.db"
    with LocalServer(store=store, **settings) as running, running.client() as client:
        info = client.server_info()
    assert info.version == sayso.__version__
    (model,) = info.models
    assert model.model_id
    assert (model.sample_rate, model.dimension) == (16000, 192)
    assert model.calibrated_range is not None
    assert 0 < model.calibrated_range.lowest < model.calibrated_range.highest < 1
    assert (info.max_call_s, info.enrollment_net_speech_s) == (77.0, 3.0)
    assert ("lockout" in info.features) == (lockout > 0)
    assert "adaptation" not in info.features
