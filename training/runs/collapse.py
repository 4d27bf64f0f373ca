"""Whether embeddings fall together, which a loss that goes down does not show."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from training.losses.pairs import distances, mean_where, pair_masks

LEAST_VARIANCE = 0.01
MARGIN_SHARE = 0.1
GAP_SHARE = 0.2

AT_MARGIN = (
    "collapse: triplet sits at its margin ({loss:.3f} of {margin}) and voices lie no farther apart "
    'than their own clips; set mining = "semi_hard" or "all", lower schedule.learning_rate, or add '
    "a loss that weighs all negatives, such as info_nce"
)
NO_VARIANCE = (
    "collapse: embeddings of different voices all but coincide (variance {variance:.4f} of 1); "
    "lower schedule.learning_rate or raise schedule.warmup_steps, and leave out the mining of "
    'hardest negatives (triplet mining = "hard", negatives.hardest) until voices are apart'
)


def diagnose(
    embeddings: Tensor,
    labels: Tensor,
    parts: Mapping[str, Tensor],
    *,
    triplet_margin: float | None = None,
) -> str | None:
    """What has collapsed and the remedy, or None: of unit embeddings (batch, dim), their labels
    (batch,) and the unweighted loss parts by name.

    Triplet is stuck when its part is within 10% of its margin while the mean distance between
    voices is below the margin and exceeds that within voices by less than 20% of it: all
    distances are alike then, and its gradient all but vanishes (Hermans et al. 2017, 1703.07737).
    The variance is 1 minus the mean cosine between voices, 0 when all are one point, and near
    zero below 0.01. A batch of one voice tells nothing.
    """
    positive, negative = pair_masks(labels)
    if not negative.any():
        return None
    points = embeddings.detach().float()
    if triplet_margin is not None and "triplet" in parts and positive.any():
        distance = distances(points)
        within, between = (mean_where(distance, kind).item() for kind in (positive, negative))
        loss = float(parts["triplet"])
        at_margin = abs(loss - triplet_margin) < MARGIN_SHARE * triplet_margin
        if at_margin and between < min(triplet_margin, within + GAP_SHARE * triplet_margin):
            return AT_MARGIN.format(loss=loss, margin=triplet_margin)
    variance = 1.0 - mean_where(points @ points.T, negative).item()
    return NO_VARIANCE.format(variance=variance) if variance < LEAST_VARIANCE else None
