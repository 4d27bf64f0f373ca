"""Our reading of AWS Signature Version 4 against botocore's signer."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from gateway.shims.sigv4 import SignatureRefused, verify
from tests.support import voice_id_client
from tests.support.voice_id_client import KEY_ID, SECRET, sign

pytestmark = pytest.mark.skipif(
    not voice_id_client.AVAILABLE, reason="boto3 is not installed: make dev"
)

HOST = "voice.example.com"
many = settings(deadline=None, max_examples=300)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
names = st.from_regex(r"x-amz-meta-[a-z0-9]{1,12}", fullmatch=True)
extra_headers = st.dictionaries(names, values, max_size=4)


def check(headers: list[tuple[str, str]], body: bytes) -> str:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return verify(
        Headers(raw=raw),
        body,
        {KEY_ID: SECRET},
        service="voiceid",
        hosts=[dict(headers)["Host"]],
        now=datetime.now(UTC),
    )


def make_request(body: bytes, extra: dict[str, str], path: str = "/") -> list[tuple[str, str]]:
    headers = {"Host": HOST, "X-Amz-Target": "VoiceID.DescribeSpeaker", **extra}
    return list(sign(f"http://{HOST}{path}", body, headers).items())


@many
@given(st.binary(max_size=300), extra_headers)
def test_what_botocore_signs_is_taken(body: bytes, extra: dict[str, str]) -> None:
    assert check(make_request(body, extra), body) == KEY_ID


@many
@given(st.binary(min_size=1, max_size=300), extra_headers, st.data())
def test_a_changed_byte_is_refused(body: bytes, extra: dict[str, str], data: st.DataObject) -> None:
    """Of the body, or of a signed header's value: outer and repeated spaces are not signed."""
    headers = make_request(body, extra)
    places = [-1, *(at for at, (_, value) in enumerate(headers) if value)]
    place = data.draw(st.sampled_from(places))
    changed = bytearray(body if place < 0 else headers[place][1].encode())
    at = data.draw(st.integers(0, len(changed) - 1))
    before = bytes(changed)
    changed[at] = data.draw(st.integers(0, 255) if place < 0 else st.integers(0x21, 0x7E))
    if bytes(changed) == before:
        return
    if place < 0:
        body = bytes(changed)
    else:
        headers[place] = (headers[place][0], changed.decode())
    with pytest.raises(SignatureRefused):
        check(headers, body)


@many
@given(st.from_regex(r"/[a-zA-Z0-9_.~/-]{1,20}(\?[a-z]{1,5}=[a-z0-9]{1,5})?", fullmatch=True))
def test_another_path_or_query_is_refused(path: str) -> None:
    """Voice ID has one path and no query; nothing signed for another is taken as one for it."""
    if not path.strip("/.") or path.startswith("/?"):
        return
    with pytest.raises(SignatureRefused):
        check(make_request(b"{}", {}, path), b"{}")


@many
@given(st.sampled_from(["host", "x-amz-date", "x-amz-target"]))
def test_a_required_header_that_is_not_signed_is_refused(name: str) -> None:
    headers = [
        (key, value.replace(f"{name};", "").replace(f";{name}", ""))
        for key, value in make_request(b"{}", {})
    ]
    with pytest.raises(SignatureRefused) as refused:
        check(headers, b"{}")
    assert refused.value.code == "IncompleteSignatureException"
