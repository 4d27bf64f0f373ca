"""Every harness, by name."""

from tests.fuzz import calls, decoders, documents, kept

HARNESSES = (*decoders.HARNESSES, *kept.HARNESSES, *documents.HARNESSES, *calls.HARNESSES)
BY_NAME = {harness.name: harness for harness in HARNESSES}
