"""Documents of Voice ID jobs, as its administrator's guide has them, and others."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from sayso import BatchItem

from service.commands.voice_id_job import Folders, Job, read

DEFAULT = BatchItem("", b"", consent="form 9")
AUDIO = {"S3Uri": "s3://calls/2025/1.wav", "ChannelId": 1}
REQUEST = {"RequestId": "r1", "SpeakerId": "27-1182", "AudioSpecifications": [AUDIO]}


def make_document(*requests: object, kind: str = "SpeakerEnrollmentRequests") -> dict[str, Any]:
    return {"Version": "1.0", kind: list(requests)}


def parse(folder: Path, document: object, *maps: str) -> Job:
    path = folder / "job.json"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_bytes(text.encode(errors="surrogateescape"))
    return read(path, Folders(folder, maps), DEFAULT, fraudster_prefix="fraudster-")


def test_a_speaker_job(tmp_path: Path) -> None:
    job = parse(tmp_path, make_document(REQUEST))
    [row] = job.rows
    assert row.name == ("27-1182", "s3://calls/2025/1.wav", 1)
    assert row.request_id == "r1"
    assert row.item.audio == tmp_path / "2025/1.wav"
    assert row.item.consent == "form 9"
    assert not job.fraudsters


def test_a_fraudster_job_names_nobody(tmp_path: Path) -> None:
    request = {"RequestId": "f1", "AudioSpecifications": [AUDIO]}
    job = parse(tmp_path, make_document(request, kind="FraudsterRegistrationRequests"))
    assert job.fraudsters
    assert job.speaker_ids == ("fraudster-f1",)


def test_the_longest_prefix_is_mapped_first(tmp_path: Path) -> None:
    folders = Folders(tmp_path, ["s3://calls=/all", "s3://calls/2025/=/new", "s3://cal=/wrong"])
    assert folders.find("s3://calls/2025/1.wav") == Path("/new/1.wav")
    assert folders.find("s3://calls/20255/1.wav") == Path("/all/20255/1.wav")
    assert folders.find("s3://other/1.wav") == tmp_path / "1.wav"


def test_two_buckets_do_not_share_a_folder(tmp_path: Path) -> None:
    """The same key in both would be one file, so that one speaker got another's voice."""
    folders = Folders(tmp_path, [])
    folders.find("s3://calls/1.wav")
    with pytest.raises(ValueError, match="--map s3://more=FOLDER"):
        folders.find("s3://more/1.wav")


@pytest.mark.parametrize(
    "uri",
    [
        "1.wav",
        "https://calls/1.wav",
        "s3://calls",
        "s3://calls/",
        "s3:///1.wav",
        "s3://calls//etc/passwd",
        "s3://calls/../1.wav",
        "s3://calls/a/./1.wav",
        "s3://calls/a/../../1.wav",
        "s3://calls/1.wav\0",
        "s3://calls/..\\1.wav",
    ],
)
def test_an_object_outside_of_the_folder(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ValueError, match=r"no s3://|characters"):
        Folders(tmp_path, []).find(uri)


@given(st.text(st.sampled_from("./\\a\0"), max_size=12))
def test_no_key_leads_out_of_the_folder(key: str) -> None:
    try:
        path = Folders(Path("/recordings"), []).find(f"s3://calls/{key}")
    except ValueError:
        return
    assert path.is_relative_to("/recordings")
    assert ".." not in path.parts


@pytest.mark.parametrize("text", ["calls=/x", "s3://=/x", "s3://calls", "s3://calls="])
def test_a_map_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(typer.BadParameter, match="s3://bucket/prefix=folder"):
        Folders(tmp_path, [text])


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "no JSON document"),
        ("{", "no JSON document"),
        ("\udcff", "no JSON document"),
        ("[" * 100_000, "no JSON document"),
        ("[]", "no document of a Voice ID job"),
        ("null", "no document of a Voice ID job"),
        ({"Version": "1.0"}, "no document of a Voice ID job"),
        (make_document() | {"FraudsterRegistrationRequests": []}, "no document of a Voice ID job"),
        (make_document() | {"Version": "2.0"}, 'Version must be "1.0"'),
        (make_document() | {"SpeakerEnrollmentRequests": {}}, "no list"),
        (make_document("r1"), "request 1: RequestId is missing"),
        (make_document(REQUEST, REQUEST), "request 2: RequestId 'r1' was there before"),
        (make_document(REQUEST | {"SpeakerId": ""}), "SpeakerId is missing"),
        (make_document(REQUEST | {"SpeakerId": 7}), "SpeakerId is missing"),
        (make_document(REQUEST | {"SpeakerId": "id#" + "a" * 22}), "CustomerSpeakerId"),
        (make_document(REQUEST | {"SpeakerId": "a" * 129}), "over 128 characters"),
        (make_document(REQUEST | {"AudioSpecifications": []}), "no list of recordings"),
        (make_document(REQUEST | {"AudioSpecifications": [1]}), "S3Uri is missing"),
        (make_document(REQUEST | {"AudioSpecifications": [AUDIO | {"ChannelId": 2}]}), "ChannelId"),
        (
            make_document(REQUEST | {"AudioSpecifications": [AUDIO | {"ChannelId": True}]}),
            "Channel",
        ),
    ],
)
def test_another_document(tmp_path: Path, document: object, says: str) -> None:
    with pytest.raises(typer.BadParameter, match=says):
        parse(tmp_path, document)
