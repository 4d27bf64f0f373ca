from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.support.small_runs import COMMON, CPU, recipe_of, run_training
from training import config, encoders
from training.data.batches import Batch
from training.data.library import Library, load_clips, read_manifest
from training.errors import ConfigError
from training.frameworks.cpc import Cpc, trunk_of
from training.learner import make_learner
from training.ranks import ALONE
from training.runs import checkpoint

SECTION = """
[framework]
name = "cpc"
ahead = 2
chunk_frames = 6
context_dim = 32
"""
LOSSES = """
[[losses]]
name = "info_nce"
"""


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return load_clips(read_manifest(corpus), 16000)


def made(negatives: str) -> Cpc:
    torch.manual_seed(0)
    return Cpc(
        frame_dim=4, context_dim=3, ahead=2, chunk_frames=6, negatives=negatives, ranks=ALONE
    )


@pytest.mark.parametrize("negatives", ["all", "utterances", "times"])
def test_loss_tells_the_right_latent_from_the_chosen_others(negatives: str) -> None:
    clips, places, dim = 3, 2, 4
    predicted, latents = torch.randn(clips, places, dim), torch.randn(clips, places, dim)
    same = torch.eye(clips, dtype=torch.bool)
    losses = []
    for clip in range(clips):
        for place in range(places):
            wrong = 0.0
            for other in range(clips):
                for time in range(places):
                    counts = {
                        "all": (other, time) != (clip, place),
                        "utterances": other != clip,
                        "times": other == clip and time != place,
                    }
                    score = float(predicted[clip, place] @ latents[other, time]) / dim**0.5
                    wrong += counts[negatives] * math.exp(score)
            right = math.exp(float(predicted[clip, place] @ latents[clip, place]) / dim**0.5)
            losses.append(-math.log(right / (right + wrong)))
    loss = made(negatives)._info_nce(predicted, latents, same)
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_latent_has_not_heard_the_next() -> None:
    recipe = recipe_of(SECTION)
    torch.manual_seed(0)
    encoder = encoders.build(recipe).eval()
    cpc = made("all")
    encoder.front_end.forward = lambda waveform: waveform  # type: ignore[method-assign]
    features = torch.randn(1, 40, 18)
    changed = features.clone()
    changed[:, :, 12:] += 1.0
    before, after = (cpc._latents(encoder, each) for each in (features, changed))
    assert before.shape == (1, 3, trunk_of(encoder).frame_dim)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.equal(before[:, 2], after[:, 2])


@pytest.mark.parametrize(
    "encoder",
    [
        '"resnet34"\nwidth = 8',
        '"cam++"\nhead_width = 4\nwidth = 8\ngrowth = 4\nlayers = [1, 1, 1]',
    ],
)
def test_works_with_every_encoder(encoder: str) -> None:
    text = COMMON[: COMMON.index('"ecapa"')] + encoder + COMMON[COMMON.index("\nembedding_dim") :]
    learner = make_learner(config.parse(text + SECTION), 1, CPU)
    batch = Batch(torch.randn(3, 8000), torch.arange(3), torch.arange(3))
    outcome = learner.framework.step(learner.encoder, batch)
    outcome.loss.backward()
    assert math.isfinite(outcome.loss.item())
    assert next(learner.encoder.encoder.parameters()).grad is not None


def test_an_encoder_without_frames_is_refused() -> None:
    encoder = encoders.build(recipe_of(SECTION))
    encoder.encoder = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="output for every frame"):
        trunk_of(encoder)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"crop_s": "[1.0, 0.2]"}, "has 3 chunks"),
        ({"held_out_speakers": "0.35\nlabel_share = 0.5"}, "needs no labels"),
    ],
)
def test_recipes_that_cannot_work_are_refused(changes: dict[str, str], complaint: str) -> None:
    section = SECTION.replace("ahead = 2", "ahead = 3")
    with pytest.raises(ConfigError, match=complaint):
        recipe_of(section, **changes)
    with pytest.raises(ConfigError, match="its own loss"):
        recipe_of(section, LOSSES)


def test_pretrains_a_trunk_that_a_supervised_run_starts_from(
    library: Library, tmp_path: Path
) -> None:
    recipe = recipe_of(SECTION, speakers="16", clips_per_speaker="1")
    begun = make_learner(recipe, 1, CPU)
    listener = run_training(recipe, library, tmp_path / "cpc")
    # the choice is among 16 clips times 7 or 6 chunks
    assert listener.losses[-1] < 0.7 * math.log(16 * 6)
    assert len(listener.errors) == 3

    pretrained = checkpoint.load(tmp_path / "cpc" / "last.pt")
    head = "encoder.linear.weight"
    assert torch.equal(pretrained.encoder[head], begun.encoder.state_dict()[head])
    supervised = recipe_of(LOSSES, steps="1", warmup_steps="0", learning_rate="1e-9")
    run_training(supervised, library, tmp_path / "tuned", start_from=pretrained)
    tuned = checkpoint.load(tmp_path / "tuned" / "last.pt")
    for key, value in pretrained.average.items():
        if "weight" in key:
            assert torch.allclose(tuned.encoder[key], value, atol=1e-6), key


def test_outcome_names_each_step_ahead() -> None:
    recipe = recipe_of(SECTION)
    learner = make_learner(recipe, 1, CPU)
    batch = Batch(torch.randn(4, 8000), torch.arange(4), torch.arange(4))
    outcome = learner.framework.step(learner.encoder, batch)
    assert outcome.parts.keys() == {"ahead_1", "ahead_2"}
    assert outcome.loss.item() == pytest.approx(
        sum(part.item() for part in outcome.parts.values()) / 2
    )
    assert outcome.compared is None
