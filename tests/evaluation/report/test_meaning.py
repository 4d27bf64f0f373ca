"""The sentence that says what an evaluation means."""

from typing import Any

import pytest

from evaluation.report import meaning


def evaluation(targets: int = 300, **own: Any) -> dict[str, Any]:
    pooled = {
        "targets": targets,
        "nontargets": 3000,
        "eer": {"value": 0.05, "interval": {"low": 0.04, "high": 0.06}},
    }
    points = [{"name": "FMR 1%", "fmr": 0.0098, "fnmr": 0.2}]
    return {"systems": [{"groups": {"pooled": pooled}, "points": points}], **own}


def own(accepted: float, rejected: float) -> dict[str, Any]:
    return {"accepted": {"value": accepted}, "rejected": {"value": rejected}}


@pytest.mark.parametrize(
    ("accepted", "rejected", "sentence"),
    [
        (
            0.01,
            0.07,
            "of 100 impostors one is accepted, and of 100 genuine callers 7 are rejected.",
        ),
        (
            0.003,
            0.00004,
            "of 1,000 impostors 3 are accepted, and of 10,000 genuine callers fewer than one is"
            " rejected.",
        ),
        (0, 1, "none of the impostors is accepted, and of 100 genuine callers 100 are rejected."),
    ],
)
def test_it_counts_people_at_the_models_own_threshold(
    accepted: float, rejected: float, sentence: str
) -> None:
    said = meaning.say_meaning(evaluation(operating_point=own(accepted, rejected)))
    assert said == f"At the model's own threshold, {sentence}"


def test_without_an_operating_point_it_says_where_the_threshold_is_from() -> None:
    assert meaning.say_meaning(evaluation()) == (
        "At a threshold chosen on these very trials, of 100 impostors one is accepted, and of 100"
        " genuine callers 20 are rejected."
    )


def test_too_few_trials_are_not_passed_over() -> None:
    assert meaning.say_meaning(evaluation(targets=10)).endswith("too few trials to rely on it.")
