import numpy as np

from service.speakers.succession import Succession
from service.store import Voiceprint

BOTH = Succession(("new", "old"), least_speech_s=5.0)


def held(**speech_s: float) -> dict[str, Voiceprint]:
    vector = np.ones((1, 2), np.float32)
    return {
        name: Voiceprint(name, vector, np.array([seconds], np.float32), 0.0)
        for name, seconds in speech_s.items()
    }


def in_use(succession: Succession, **speech_s: float) -> str | None:
    found = succession.in_use(held(**speech_s))
    return found.model_id if found else None


def test_a_complete_voice_of_the_new_model_counts() -> None:
    assert in_use(BOTH, old=20.0, new=5.0) == "new"
    assert in_use(BOTH, new=6.0) == "new"


def test_until_then_the_old_one_counts() -> None:
    assert in_use(BOTH, old=20.0) == "old"
    assert in_use(BOTH, old=20.0, new=4.9) == "old"


def test_of_incomplete_ones_the_old_one_counts() -> None:
    assert in_use(BOTH, old=3.0, new=4.0) == "old"
    assert in_use(BOTH, new=1.0) == "new"


def test_other_models_do_not_count() -> None:
    assert in_use(BOTH, ancient=60.0) is None
    assert in_use(BOTH, ancient=60.0, old=1.0) == "old"
    assert in_use(Succession(("new",)), old=60.0) is None
    assert in_use(Succession(("new",)), old=60.0, new=1.0) == "new"
