"""Breakdowns of trials: by net speech, noise, corpus, and every label of the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evaluation.scoring.scores import ScoredTrials
from evaluation.trials import labels

Masks = Mapping[str, NDArray[np.bool_]]

SPEECH_EDGES_S = (1.0, 2.0, 3.0, 5.0, 10.0)
SNR_EDGES_DB = (5.0, 10.0, 20.0, 30.0)
FEW = 12
DEMOGRAPHIC = ("gender", "sex", "age", "accent", "dialect", "language", "nationality", "ethnicity")
MEASURES = ("seconds", "duration")  # columns that measure a clip and do not label it


def break_down(scored: ScoredTrials) -> Iterator[tuple[str, Masks]]:
    """Yield the name and the masks (n,), by group, of every breakdown with at least two groups."""
    for name, masks in _list_all(scored):
        groups = {group: keep for group, keep in masks.items() if keep.any()}
        if len(groups) > 1:
            yield name, groups


def split_by_corpus(scored: ScoredTrials) -> Masks:
    """Masks (n,) of the trials within each corpus; empty if no clip has one."""
    if not any(clip.corpus for clip in scored.trials.clips):
        return {}
    return split_by_label(scored, "corpus")


def split_by_label(scored: ScoredTrials, column: str) -> Masks:
    """Masks (n,) of the trials whose sides have the same label in `column`; a blank is no group."""
    sides = labels.label_sides(scored.trials, column)
    return {name: sides.same & (sides.test == code) for code, name in enumerate(sides.names)}


def _list_all(scored: ScoredTrials) -> Iterator[tuple[str, Masks]]:
    measures = scored.measures
    yield "net speech, heard", split_into_bins(measures.test_speech_s, SPEECH_EDGES_S, "s")
    yield "net speech, enrolled", split_into_bins(measures.enrol_speech_s, SPEECH_EDGES_S, "s")
    yield "signal to noise, heard", split_into_bins(measures.snr_db, SNR_EDGES_DB, "dB")
    for column in labels.list_columns(scored.trials.clips):
        if column in MEASURES:
            continue
        sides = labels.label_sides(scored.trials, column)
        if len(sides.names) <= FEW or column in DEMOGRAPHIC:
            yield column, split_by_label(scored, column)
        yield f"change of {column}", {"same": sides.same, "different": sides.different}


def split_into_bins(values: NDArray[np.float64], edges: Sequence[float], unit: str) -> Masks:
    """Masks (n,) of half-open ranges of `values` (n,) between `edges`, named with their unit."""
    index = np.searchsorted(edges, values, side="right")
    names = [f"under {edges[0]:g} {unit}"]
    names += [f"{low:g} to {high:g} {unit}" for low, high in pairwise(edges)]
    names.append(f"{edges[-1]:g} {unit} or more")
    return {name: index == place for place, name in enumerate(names)}
