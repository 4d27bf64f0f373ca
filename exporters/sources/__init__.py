"""Published models, their architectures rebuilt or taken from the peer's own package."""

from collections.abc import Callable, Mapping
from pathlib import Path

from exporters.countermeasures import CountermeasureCandidate
from exporters.publish import Candidate
from exporters.sources import aasist, resemblyzer
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
"""Architectures of speaker models whose checkpoints can be adopted."""

COUNTERMEASURES: Mapping[str, Callable[[Path], CountermeasureCandidate]] = {
    "aasist": lambda path: aasist.make_candidate(path, aasist.AASIST_SIZES),
    "aasist-l": lambda path: aasist.make_candidate(path, aasist.AASIST_L_SIZES),
}
"""The same of countermeasures."""
