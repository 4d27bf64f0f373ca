from __future__ import annotations

from pathlib import Path

import pytest

from training import config
from training.errors import ConfigError

MINIMAL = """
losses = [{ name = "triplet" }]
[encoder]
name = "ecapa"
width = 16
groups = 4
[schedule]
steps = 10
"""


def test_defaults_fill_a_minimal_recipe() -> None:
    recipe = config.parse(MINIMAL)
    assert recipe.front_end.mels == 80
    assert recipe.schedule.steps == 10
    assert recipe.encoder.width == 16
    assert config.Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("steps = 10", "steps = 10\nstepz = 3"), "schedule.stepz"),
        (("width = 16", "width = 16\ndepth = 3"), "depth"),
        (('{ name = "triplet" }', '{ name = "triplet", scale = 3 }'), "losses.0.triplet.scale"),
        (('"triplet"', '"tripled"'), "losses.0"),
        (('"ecapa"', '"resnet"'), "encoder: .*'ecapa', 'resnet34', 'cam[+]{2}'"),
        (("steps = 10", "steps = 0"), "schedule.steps"),
        (("width = 16", "width = 18"), "no multiple of groups"),
        (('[{ name = "triplet" }]', "[]"), "losses"),
        (("steps = 10", ""), "schedule.steps"),
        (("steps = 10", "steps = 10\n[front_end]\nhigh_hz = 9000"), "front_end"),
        (("steps = 10", "steps = 10\n[augmentation]\nnoise = 1.5"), "augmentation.noise"),
        (("steps = 10", "steps = 10\n[augmentation]\nroom_rt60_s_range = [2, 1]"), "room_rt60_s"),
        (("steps = 10", "steps ="), "not TOML"),
        (
            ('[{ name = "triplet" }]', '[{ name = "triplet" }, { name = "triplet" }]'),
            "triplet is listed twice",
        ),
    ],
)
def test_errors_name_the_key(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config.parse(MINIMAL.replace(*change))


def test_every_recipe_of_the_project_loads_by_name() -> None:
    names = [path.stem for path in config.RECIPES.glob("*.toml")]
    assert "first" in names
    for name in names:
        config.load(name)


def test_unknown_recipe_tells_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="first"):
        config.load(tmp_path / "none.toml")
