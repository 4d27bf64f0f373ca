"""A toy model and real speech to measure."""

from tests.support.made_speech import model_file, spoken

__all__ = ["model_file", "spoken"]
