"""Every harness, by name."""

from tests.fuzz import calls, checkpoints, decoders, documents, kept

HARNESSES = (
    *decoders.HARNESSES,
    *kept.HARNESSES,
    *documents.HARNESSES,
    *checkpoints.HARNESSES,
    *calls.HARNESSES,
)
BY_NAME = {harness.name: harness for harness in HARNESSES}
