"""Measure what protected templates cost and hide, for docs/security/encryption.md.

    python -m benchmarks.accuracy.protected_templates [MODEL]
        [--manifest ../shared/data/manifest.csv]

Pairs of recordings of one corpus are compared as they are, as one tenant's store holds and reads
them, and as two tenants' stores hold them: what somebody with both stores could compare.
"""

import argparse
import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import pages
from evaluation import metrics
from evaluation.scoring import cache, embeddings, scores
from evaluation.scoring.embeddings import Voices
from evaluation.scoring.sayso_model import SaysoModel
from evaluation.trials import manifest, trials
from evaluation.trials.trials import Trials
from service.sealing.envelope import DataKey
from service.settings import SHIPPED_MODEL

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security" / "encryption.md"
TENANTS = 20
TRIALS = 200_000

Vectors = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heard:
    """Trials between recordings that gave an embedding, `vectors (clips, dim)`, and the model."""

    trials: Trials
    vectors: Vectors
    model_id: str

    @classmethod
    def of(cls, asked: Trials, voices: Voices, model_id: str) -> "Heard":
        acquired = voices.acquired[asked.enrol] & voices.acquired[asked.test]
        return cls(asked.select(acquired), voices.vectors, model_id)

    def cosines(self, enrolled: Vectors, tested: Vectors) -> Doubles:
        return scores.measure_cosines(enrolled, tested, self.trials.enrol, self.trials.test)

    def eer(self, enrolled: Vectors, tested: Vectors) -> float:
        cosine, target = self.cosines(enrolled, tested), self.trials.target
        return metrics.eer_interpolated(metrics.Sweep.of(cosine[target], cosine[~target]))

    def measure_linkage_eer(self, mine: Vectors, theirs: Vectors) -> float:
        """Measure the EER of telling whether two templates are of the very same recording."""
        same = np.unique(self.trials.test)
        rows = np.concatenate([self.trials.enrol, same])
        cosine = scores.measure_cosines(
            mine, theirs, rows, np.concatenate([self.trials.test, same])
        )
        others = cosine[: len(self.trials)][~self.trials.target]
        return metrics.eer_interpolated(metrics.Sweep.of(cosine[len(self.trials) :], others))


async def embed_clips(model: Path, table: Path, split: str) -> Heard:
    clips = manifest.read(table, split)
    asked = trials.make_pairs(clips, limit=TRIALS)
    with cache.Cache.open(cache.default_path()) as kept:
        async with SaysoModel.open(model) as system:
            voices = await embeddings.embed(system, asked.clips, kept)
            return Heard.of(asked, voices, system.model_id)


def make_tenant_key(number: int) -> DataKey:
    """Make a key that is the same in every run, unlike those of servers."""
    return DataKey(1, hashlib.sha256(f"tenant {number}".encode()).digest())


def render_table(found: Heard) -> str:
    keys = [make_tenant_key(number) for number in range(TENANTS + 1)]
    turned = [key.rotate(found.model_id, found.vectors) for key in keys]
    read = keys[0].rotate_back(found.model_id, turned[0])
    apart = np.abs(
        found.cosines(read, found.vectors) - found.cosines(found.vectors, found.vectors)
    ).max()
    across = [found.eer(turned[0], other) for other in turned[1:]]
    linked = [found.measure_linkage_eer(turned[0], other) for other in turned[1:]]
    used = np.unique(np.concatenate([found.trials.enrol, found.trials.test]))
    own = np.concatenate([np.sum((turned[0] * other)[used], axis=1) for other in turned[1:]])
    rows = {
        "unprotected": f"{found.eer(found.vectors, found.vectors):.3%}",
        "one tenant, as read from its store": f"{found.eer(read, found.vectors):.3%}",
        "one tenant, as its store holds them": f"{found.eer(turned[0], turned[0]):.3%}",
        "two tenants, as their stores hold them": format_range(across),
        "two tenants, the same recording in both": format_range(linked),
    }
    target = int(found.trials.target.sum())
    lines = [
        f"Measured with {found.model_id}: {target:,} pairs of recordings of one person, "
        f"{len(found.trials) - target:,} of two.",
        "",
        "| compared | equal error rate |",
        "|---|---|",
        *(f"| {name} | {rate} |" for name, rate in rows.items()),
        "",
        f"Across is against {TENANTS} other tenants: the mean, and the least and the most of them. "
        f"What is read from the store differs in no cosine by more than {apart:.1g}. The template "
        f"of one recording has with itself in another tenant a cosine of {own.mean():.3f} on "
        f"average, with a standard deviation of {own.std():.3f}.",
    ]
    return "\n".join(lines) + "\n"


def format_range(rates: list[float]) -> str:
    return f"{np.mean(rates):.1%} ({min(rates):.1%} to {max(rates):.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--manifest", type=Path, default=ROOT.parent / "shared/data/manifest.csv")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--print", action="store_true", help="leave the page as it is")
    arguments = parser.parse_args()
    found = asyncio.run(embed_clips(arguments.model, arguments.manifest, arguments.split))
    measurement = render_table(found)
    print(measurement)
    if not arguments.print:
        pages.write_measured(PAGE, measurement)


if __name__ == "__main__":
    main()
