"""The demo's recordings, which every checkout has."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "demo" / "audio"


def clips(speaker: str, prefix: str) -> list[Path]:
    """Recordings of a speaker whose names begin with `prefix`, sorted."""
    found = sorted((FOLDER / speaker).glob(f"{prefix}*"))
    assert found, f"no {prefix}* in {FOLDER / speaker}"
    return found
