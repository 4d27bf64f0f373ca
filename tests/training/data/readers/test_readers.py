from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.__main__ import app
from training.data import manifest, readers
from training.data.manifest import Row
from training.data.readers.files import count_unread
from training.errors import ManifestError


def tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def listing(layout: str, root: Path) -> list[tuple[str, str, str, str, str]]:
    return [
        (str(row.path.relative_to(root)), row.corpus, row.speaker, row.split, row.session)
        for row in readers.read(layout, root)
    ]


def test_voxceleb(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "vox1/dev/wav/id10001/1zcIwhmdeo4/00001.wav",
        "vox1/test/wav/id10270/5r0dWxy17C8/00001.wav",
        "vox2/dev/flac/id00012/21Uxsk56VDQ/00001.flac",
        "vox2/dev/flac/id00012/21Uxsk56VDQ/00001.txt",
        "vox2/readme.wav",
    )
    assert listing("voxceleb", tmp_path) == [
        ("vox1/dev/wav/id10001/1zcIwhmdeo4/00001.wav", "voxceleb1", "id10001", "train",
         "1zcIwhmdeo4"),
        ("vox1/test/wav/id10270/5r0dWxy17C8/00001.wav", "voxceleb1", "id10270", "test",
         "5r0dWxy17C8"),
        ("vox2/dev/flac/id00012/21Uxsk56VDQ/00001.flac", "voxceleb2", "id00012", "train",
         "21Uxsk56VDQ"),
    ]  # fmt: skip


def test_voxceleb_as_it_is_downloaded_says_what_to_do(tmp_path: Path) -> None:
    tree(tmp_path, "dev/aac/id00012/21Uxsk56VDQ/00001.m4a")
    with pytest.raises(ManifestError, match="convert them"):
        readers.read("voxceleb", tmp_path)


def test_voxceleb_knows_its_test_speakers_in_a_merged_folder(tmp_path: Path) -> None:
    names = [f"wav/id{number}/v/1.wav" for number in (10269, 10270, 10309, 10310)]
    tree(tmp_path, *names)
    splits = {row.speaker: row.split for row in readers.read("voxceleb", tmp_path)}
    assert splits == {
        "id10269": "train", "id10270": "test", "id10309": "test", "id10310": "train",
    }  # fmt: skip


def test_recordings_that_no_reader_opens_are_counted(tmp_path: Path) -> None:
    tree(
        tmp_path,
        *(f"wav/id10001/v/{name}" for name in ("1.wav", "1.m4a", "2.m4a", "3.m4a", "4.AMR")),
        "wav/id10001/v/notes.txt",
    )
    rows = readers.read("voxceleb", tmp_path)
    assert dict(count_unread(tmp_path, rows)) == {".m4a": 2, ".amr": 1}
    output = tmp_path / "manifest.csv"
    arguments = ["manifest", str(tmp_path), "--layout", "voxceleb", "--output", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "left out: 2 .m4a files, which are not read" in result.stderr


def test_a_file_name_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "id10001" / "v"
    folder.mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.wav")).write_bytes(b"")
    with pytest.raises(ManifestError, match=r"caf\\xe9.*rename it"):
        readers.read("voxceleb", tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_lists_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    tree(tmp_path, "a.wav", "clips/a.mp3", "words/José_nohash_0.wav")
    (tmp_path / "wav.scp").write_text("José a.wav\n", encoding=encoding)
    (tmp_path / "utt2spk").write_text("José José\n", encoding=encoding)
    (tmp_path / "testing_list.txt").write_text("words/José_nohash_0.wav\n", encoding=encoding)
    (tmp_path / "train.tsv").write_text("client_id\tpath\nJosé\ta.mp3\n", encoding=encoding)
    for layout in ("kaldi", "common_voice", "speech_commands"):
        if encoding == "latin-1":
            with pytest.raises(ManifestError, match="is not utf-8; if it is Latin-1"):
                readers.read(layout, tmp_path)
        else:
            assert [row.speaker for row in readers.read(layout, tmp_path)] == ["José"]


def test_librispeech(tmp_path: Path) -> None:
    names = ["dev-clean/84/121123/84-121123-0000.flac", "train-clean-100/19/198/19-198-0001.flac"]
    tree(tmp_path, *names, "train-clean-100/19/198/19-198.trans.txt", "BOOKS/x/y/z.wav")
    assert listing("librispeech", tmp_path) == [
        (names[0], "librispeech", "84", "dev", "121123"),
        (names[1], "librispeech", "19", "train", "198"),
    ]


def test_common_voice_keeps_a_client_in_one_split(tmp_path: Path) -> None:
    lists = {
        "train": [("anna", "a1.mp3")],
        "dev": [("bela", "b1.mp3")],
        "validated": [("anna", "a1.mp3"), ("bela", "b2.mp3"), ("cleo", "c1.mp3")],
    }
    root = tmp_path / "fa"
    root.mkdir()
    for name, rows in lists.items():
        lines = ["client_id\tpath\tsentence", *(f'{c}\t{p}\tsay "x' for c, p in rows)]
        (root / f"{name}.tsv").write_text("\n".join(lines), encoding="utf-8")
    assert listing("common_voice", root) == [
        ("clips/a1.mp3", "common_voice_fa", "anna", "train", ""),
        ("clips/b1.mp3", "common_voice_fa", "bela", "dev", ""),
        ("clips/b2.mp3", "common_voice_fa", "bela", "dev", ""),
        ("clips/c1.mp3", "common_voice_fa", "cleo", "train", ""),
    ]


def test_common_voice_list_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("id\tfile\na\tb\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="no list of Common Voice"):
        readers.read("common_voice", tmp_path)


def test_audiomnist(tmp_path: Path) -> None:
    tree(tmp_path, "data/01/0_01_0.wav", "data/60/9_60_49.wav", "data/60/9_61_49.wav")
    assert listing("audiomnist", tmp_path) == [
        ("data/01/0_01_0.wav", "audiomnist", "01", "train", ""),
        ("data/60/9_60_49.wav", "audiomnist", "60", "train", ""),
    ]


def test_speech_commands(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "_background_noise_/pink_noise.wav",
        "cat/0a2b400e_nohash_0.wav",
        "dog/0a2b400e_nohash_1.wav",
        "dog/f00dcafe_nohash_0.wav",
    )
    (tmp_path / "testing_list.txt").write_text("dog/f00dcafe_nohash_0.wav\n", encoding="utf-8")
    assert listing("speech_commands", tmp_path) == [
        ("cat/0a2b400e_nohash_0.wav", "speech_commands", "0a2b400e", "train", ""),
        ("dog/0a2b400e_nohash_1.wav", "speech_commands", "0a2b400e", "train", ""),
        ("dog/f00dcafe_nohash_0.wav", "speech_commands", "f00dcafe", "test", ""),
    ]


def kaldi(root: Path, wav_scp: str, utt2spk: str = "u1 anna\nu2 bela\n") -> Path:
    folder = root / "calls"
    folder.mkdir(exist_ok=True)
    (folder / "wav.scp").write_text(wav_scp, encoding="utf-8")
    (folder / "utt2spk").write_text(utt2spk, encoding="utf-8")
    return folder


def test_kaldi(tmp_path: Path) -> None:
    folder = kaldi(tmp_path, f"u1 one two.wav\nu2 {tmp_path}/u2.flac\n")
    (folder / "one two.wav").write_bytes(b"")
    (folder / "utt2session").write_text("u2 monday\n", encoding="utf-8")
    assert readers.read("kaldi", folder) == [
        Row(folder / "one two.wav", "calls", "anna", "train"),
        Row(tmp_path / "u2.flac", "calls", "bela", "train", "monday"),
    ]


@pytest.mark.parametrize(
    ("wav_scp", "complaint"),
    [
        ("u1 sph2pipe -f wav a.sph |\n", "is a command"),
        ("u3 a.wav\n", "no speaker of u3"),
        ("u1\n", "line 1 has fewer than 2 fields"),
    ],
)
def test_kaldi_folders_that_are_no_lists_of_files(
    tmp_path: Path, wav_scp: str, complaint: str
) -> None:
    with pytest.raises(ManifestError, match=complaint):
        readers.read("kaldi", kaldi(tmp_path, wav_scp))


def test_kaldi_segments_and_missing_lists_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read .*utt2spk"):
        readers.read("kaldi", tmp_path)
    (tmp_path / "segments").write_text("", encoding="utf-8")
    with pytest.raises(ManifestError, match="segments"):
        readers.read("kaldi", tmp_path)


def test_plain_manifests_are_joined(tmp_path: Path) -> None:
    rows = [Row(tmp_path / name / "1.wav", name, "s", "train", "t") for name in ("a", "b")]
    for row in rows:
        manifest.write(row.path.parent / "manifest.csv", [row])
    assert readers.read("plain", tmp_path) == rows
    assert readers.read("plain", tmp_path / "a" / "manifest.csv") == rows[:1]


@pytest.mark.parametrize("layout", sorted(readers.LAYOUTS.keys() - {"kaldi"}))
def test_a_root_without_clips_is_an_error_that_shows_the_layout(
    layout: str, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match=r"no clip of the layout .*; it has .*\."):
        readers.read(layout, tmp_path)


def test_an_unknown_layout_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="there are audiomnist, "):
        readers.read("timit", tmp_path)
