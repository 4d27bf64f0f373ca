from pathlib import Path

import pytest
import typer
from sayso import BatchItem, RawAudio

from service.commands.manifest import Row, read

EVERY = BatchItem("", b"", channel=1, consent="form 1", require_confirmation=True)


def rows(folder: Path, text: str, default: BatchItem = EVERY) -> list[Row]:
    manifest = folder / "voices.csv"
    manifest.write_text(text, encoding="utf-8-sig")
    return read(manifest, default, sample_rate=8000)


def test_paths_are_beside_the_manifest_and_options_hold_for_every_row(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, "path,speaker_id\nclips/a.wav,alice\n")
    assert row.item == BatchItem(
        "alice",
        tmp_path / "clips/a.wav",
        channel=1,
        consent="form 1",
        require_confirmation=True,
    )
    assert row.name == ("alice", "clips/a.wav", 1)


def test_a_row_overrides_what_holds_for_every_row(tmp_path: Path) -> None:
    header = "speaker_id,path,consent,channel,encoding,sample_rate\n"
    one, other = rows(tmp_path, header + "alice,a,form 2,0,MULAW,16000\nbob,b,,,ALAW,\n")
    assert (one.item.consent, one.item.channel) == ("form 2", 0)
    assert one.item.raw == RawAudio("MULAW", 16000)
    assert (other.item.consent, other.item.channel) == ("form 1", 1)
    assert other.item.raw == RawAudio("ALAW", 8000)


def test_a_manifest_of_another_encoding_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "latin.csv"
    manifest.write_bytes("speaker_id,path\nzoë,a.wav\n".encode("latin-1"))
    with pytest.raises(typer.BadParameter, match=r"latin\.csv: is not UTF-8"):
        read(manifest, EVERY, sample_rate=None)


def test_a_recording_named_twice_is_one(tmp_path: Path) -> None:
    assert len(rows(tmp_path, "speaker_id,path\nalice,a.wav\nalice,a.wav\nbob,a.wav\n")) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("speaker,path\n", "no column speaker_id"),
        ("speaker_id,path,consnet\n", "'consnet'"),
        ("speaker_id,path\nalice,a.wav\nbob\n", "line 3"),
        ("speaker_id,path\nalice,a.wav,more\n", "line 2"),
        ("speaker_id,path\n,a.wav\n", "line 2"),
        ("speaker_id,path,channel\nalice,a.wav,left\n", "line 2.*left"),
        ("speaker_id,path,encoding\nalice,a.wav,mp3\n", "line 2: mp3"),
        ("", "no column speaker_id"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(typer.BadParameter, match=problem):
        rows(tmp_path, text)
