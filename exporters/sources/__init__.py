"""Published models, their architectures rebuilt or taken from the peer's own package."""

from collections.abc import Callable, Mapping
from pathlib import Path

from exporters.publish import Candidate
from exporters.sources import resemblyzer
from exporters.sources.speechbrain import SPEECHBRAIN
from exporters.sources.toolkits import TOOLKITS

NAMES: Mapping[str, Callable[[Path | None], Candidate]] = {
    "resemblyzer": resemblyzer.make_candidate
}
"""Models whose weights come with a package of the index."""

ARCHITECTURES: Mapping[str, Callable[[Path], Candidate]] = {
    "resemblyzer": resemblyzer.make_candidate,
    **SPEECHBRAIN,
    **TOOLKITS,
}
"""Architectures whose checkpoints can be adopted."""
