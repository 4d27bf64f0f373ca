import numpy as np

from service.speakers.voiceprints import ModelSuccession
from service.store import Voiceprint

BOTH = ModelSuccession(("new", "old"), min_speech_s=5.0)


def voiceprints(**speech_s: float) -> dict[str, Voiceprint]:
    vector = np.ones((1, 2), np.float32)
    return {
        name: Voiceprint(name, vector, np.array([seconds], np.float32), 0.0)
        for name, seconds in speech_s.items()
    }


def selected(succession: ModelSuccession, **speech_s: float) -> str | None:
    voiceprint = succession.select(voiceprints(**speech_s))
    return None if voiceprint is None else voiceprint.model_id


def test_a_complete_voice_of_the_new_model_counts() -> None:
    assert selected(BOTH, old=20.0, new=5.0) == "new"
    assert selected(BOTH, new=6.0) == "new"


def test_until_then_the_old_one_counts() -> None:
    assert selected(BOTH, old=20.0) == "old"
    assert selected(BOTH, old=20.0, new=4.9) == "old"


def test_of_incomplete_ones_the_old_one_counts() -> None:
    assert selected(BOTH, old=3.0, new=4.0) == "old"
    assert selected(BOTH, new=1.0) == "new"


def test_other_models_do_not_count() -> None:
    assert selected(BOTH, ancient=60.0) is None
    assert selected(BOTH, ancient=60.0, old=1.0) == "old"
    assert selected(ModelSuccession(("new",)), old=60.0) is None
    assert selected(ModelSuccession(("new",)), old=60.0, new=1.0) == "new"
