"""Common Voice, one language: Ardila et al., LREC 2020."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from training.data.manifest import Row
from training.data.text_files import read_text
from training.errors import ManifestError

SPLITS = ("train", "dev", "test")
LISTS = (*SPLITS, "validated")


def common_voice(root: Path) -> Iterator[Row]:
    """clips/*.mp3 beside train.tsv, dev.tsv, test.tsv and validated.tsv: a client is a speaker.

    A client keeps to one split, that of the lists it is in (test before dev before train), and is
    trained on when it is in none, so that validated.tsv adds to every client's clips. Its name is
    `common_voice_` and that of the root's folder, which is the language's.
    """
    lists = {name: _clients(root / f"{name}.tsv") for name in LISTS}
    split_of = {client: split for split in SPLITS for client in lists[split].values()}
    client_of = {path: client for clips in lists.values() for path, client in clips.items()}
    corpus = f"common_voice_{root.resolve().name}"
    for path, client in sorted(client_of.items()):
        yield Row(root / "clips" / path, corpus, client, split_of.get(client, "train"))


def _clients(path: Path) -> dict[str, str]:
    """The client of each clip of a list; empty if there is no such list."""
    if not path.exists():
        return {}
    try:
        lines = io.StringIO(read_text(path), newline="")
        reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["path"]: row["client_id"] for row in reader}
    except (csv.Error, KeyError) as error:
        raise ManifestError(f"{path} is no list of Common Voice: {error!r}") from error
