"""A toy model and real speech to measure."""

from tests.support.made_speech import model_file, speech_manifest

__all__ = ["model_file", "speech_manifest"]
