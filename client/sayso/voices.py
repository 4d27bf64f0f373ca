"""Recordings and calls: enrol, verify, identify, embed, compare.

A recording that is too large for one message is streamed, by the calls that have a stream.
"""

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from sayso import batch, messages
from sayso.batch import MAX_ITEM_BYTES
from sayso.connection import Connection
from sayso.errors import InvalidArgument
from sayso.messages import MESSAGE_S
from sayso.statuses import raise_error
from sayso.v1 import verification_pb2
from sayso.values import (
    BatchItem,
    BatchResult,
    Decision,
    Duplicates,
    Embedding,
    Enrollment,
    Identification,
    RawAudio,
    SequentialTest,
)

log = logging.getLogger(__name__)

_LEAVING_S = 5.0
"""How long a stream that is left early waits for the server to conclude it."""


class Voices(Connection):
    """`VerificationService`."""

    def enroll(
        self,
        speaker_id: str,
        audio: bytes | Path,
        *,
        raw: RawAudio | None = None,
        channel: int | None = None,
        replace: bool = False,
        metadata: Mapping[str, str] | None = None,
        consent: str | None = None,
        require_confirmation: bool = False,
        duplicates: Duplicates | None = None,
        etag: str = "",
        watchlists: Iterable[str] = (),
        stop_when_complete: bool = False,
    ) -> Enrollment:
        """Adds a recording to a speaker's voice; stored durably when this returns.

        `consent` is your own reference to the speaker's consent, given now. `duplicates` says what
        to do with a voice that is already enrolled under another id. The voice is screened against
        `watchlists`. With `stop_when_complete` no more of `raw` audio is taken than is needed.
        """
        item = BatchItem(
            speaker_id,
            audio,
            raw=raw,
            channel=channel,
            replace=replace,
            metadata=metadata or {},
            consent=consent,
            require_confirmation=require_confirmation,
            duplicates=duplicates,
            etag=etag,
            watchlists=tuple(watchlists),
        )
        config = messages.enroll_config(item)
        config.stop_when_complete = stop_when_complete
        requests = messages.enroll_requests(config, [messages.audio_bytes(audio)])
        try:
            *_, last = self._voices.Enroll(requests, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise_error(error)
        return messages.enrollment(last)

    def enroll_stream(
        self,
        speaker_id: str,
        chunks: Iterable[bytes],
        *,
        raw: RawAudio | None = None,
        channel: int | None = None,
        replace: bool = False,
        consent: str | None = None,
        watchlists: Iterable[str] = (),
        stop_when_complete: bool = False,
        message_s: float = MESSAGE_S,
    ) -> Iterator[Enrollment]:
        """Enrols while the speaker still talks: yields progress and, stored durably, the result,
        when `chunks` end or, with `stop_when_complete`, as soon as there is enough speech. For
        `message_s` see `verify_stream`."""
        item = BatchItem(
            speaker_id,
            b"",
            raw=raw,
            channel=channel,
            replace=replace,
            consent=consent,
            watchlists=tuple(watchlists),
        )
        config = messages.enroll_config(item)
        config.stop_when_complete = stop_when_complete
        try:
            requests = messages.enroll_requests(config, messages.collect(chunks, raw, message_s))
            for response in self._voices.Enroll(requests):
                yield messages.enrollment(response)
        except grpc.RpcError as error:
            raise_error(error)

    def batch_enroll(
        self, items: Iterable[BatchItem], *, max_item_bytes: int = MAX_ITEM_BYTES
    ) -> Iterator[BatchResult]:
        """Enrols many recordings on one stream; yields a result for each as it is ready.

        An item that fails does not end the others; a recording that the voice holds already is not
        added twice, so a batch that broke off may be sent again. `max_item_bytes` is the server's
        limit; an item that is too large for one message is sent on a stream of its own. Raises
        when a stream itself ends in an error.
        """
        return batch.results(self._voices, items, max_item_bytes=max_item_bytes)

    def verify(
        self,
        speaker_id: str,
        audio: bytes | Path,
        *,
        raw: RawAudio | None = None,
        channel: int | None = None,
        target_false_match_rate: float | None = None,
        watchlists: Iterable[str] = (),
    ) -> Decision:
        """Decides whether a recording is the enrolled voice; screens it against `watchlists`."""
        request = verification_pb2.VerifyRequest(
            speaker_id=speaker_id,
            config=messages.audio_config(raw, channel),
            audio=messages.audio_bytes(audio),
            policy=messages.policy(target_false_match_rate, None),
            watchlists=watchlists,
        )
        if _too_large(request):
            config = verification_pb2.StreamingVerifyConfig(
                speaker_id=speaker_id,
                audio=request.config,
                policy=request.policy,
                watchlists=request.watchlists,
            )
            return messages.call_decision(self._streamed(config, request.audio))
        response = self._call(self._voices.Verify, request)
        return messages.decision(response.decision, response.watchlist_matches)

    def verify_stream(
        self,
        speaker_id: str,
        chunks: Iterable[bytes],
        *,
        raw: RawAudio | None = None,
        channel: int | None = None,
        target_false_match_rate: float | None = None,
        sequential: SequentialTest | None = None,
        stop_at_decision: bool = False,
        continuous: bool = False,
        watchlists: Iterable[str] = (),
        identify_group: str = "",
        max_candidates: int = 1,
        message_s: float = MESSAGE_S,
    ) -> Iterator[Decision]:
        """Decides while the caller still talks: yields the decision as it stands, the last one
        when `chunks` end or, with `stop_at_decision`, when it is conclusive.

        Raw audio in smaller chunks is sent in messages of `message_s` seconds, which costs the
        server less; 0 sends every chunk as it comes.

        Leave the iterator whenever you like: the stream is then half-closed, so that the server
        concludes on what it has heard, rather than cancelled.

        With an empty `speaker_id` only `watchlists` and `identify_group` are searched: the decision
        is INCONCLUSIVE, and its `identification` is what counts.
        """
        config = verification_pb2.StreamingVerifyConfig(
            speaker_id=speaker_id,
            audio=messages.audio_config(raw, channel),
            policy=messages.policy(target_false_match_rate, sequential),
            stop_at_decision=stop_at_decision,
            continuous=continuous,
            watchlists=watchlists,
            identify_group=identify_group,
            max_candidates=max_candidates,
        )
        left = threading.Event()
        collected = messages.collect(_until(left, chunks), raw, message_s)
        requests = messages.call_requests(config, collected)
        call = self._voices.StreamingVerify(requests)
        try:
            for response in call:
                yield messages.call_decision(response)
        except grpc.RpcError as error:
            raise_error(error)
        except GeneratorExit:
            left.set()
            _conclude(call)
            raise

    def identify(
        self,
        group: str,
        audio: bytes | Path,
        *,
        raw: RawAudio | None = None,
        channel: int | None = None,
        target_false_match_rate: float | None = None,
        max_candidates: int = 1,
    ) -> Identification:
        """Finds who of a group is speaking, or that it is none of them; raises `NotFound`.

        `target_false_match_rate` is of taking a stranger for any member.
        """
        request = verification_pb2.IdentifyRequest(
            group=group,
            config=messages.audio_config(raw, channel),
            audio=messages.audio_bytes(audio),
            policy=messages.policy(target_false_match_rate, None),
            max_candidates=max_candidates,
        )
        if _too_large(request):
            config = verification_pb2.StreamingVerifyConfig(
                audio=request.config,
                policy=request.policy,
                identify_group=group,
                max_candidates=max_candidates,
            )
            found = messages.call_decision(self._streamed(config, request.audio)).identification
            assert found is not None, "a group was to be searched"
            return found
        response = self._call(self._voices.Identify, request)
        return Identification(
            messages.decision(response.decision), tuple(map(messages.match, response.candidates))
        )

    def embed(
        self, audio: bytes | Path, *, raw: RawAudio | None = None, channel: int | None = None
    ) -> Embedding | None:
        """The embedding of a recording of 4 MiB at most; None when it has too little speech. Needs
        the role `analyze`."""
        request = verification_pb2.EmbedRequest(
            config=messages.audio_config(raw, channel), audio=messages.audio_bytes(audio)
        )
        if _too_large(request):
            raise InvalidArgument(
                f"the recording has {len(request.audio)} bytes, and a request holds "
                f"{messages.MAX_MESSAGE_BYTES}; send less of it, or the same as FLAC or Ogg Opus",
                field="audio",
            )
        response = self._call(self._voices.Embed, request)
        if not response.HasField("embedding"):
            return None
        made = response.embedding
        return Embedding(made.model_id, tuple(made.values), made.net_speech_s)

    def compare(self, left: Embedding, right: Embedding) -> float:
        """Cosine of two embeddings of one model. Needs the role `analyze`."""
        request = verification_pb2.CompareRequest(
            left=[messages.embedding_message(left)], right=[messages.embedding_message(right)]
        )
        return float(self._call(self._voices.Compare, request).comparisons[0].cosine)

    def _streamed(
        self, config: verification_pb2.StreamingVerifyConfig, audio: bytes
    ) -> verification_pb2.StreamingVerifyResponse:
        """The last response to a whole recording."""
        log.debug("a recording of %d bytes is streamed: too large for one message", len(audio))
        requests = messages.call_requests(config, [audio])
        try:
            *_, last = self._voices.StreamingVerify(requests, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise_error(error)
        return last


def _until(left: threading.Event, chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if left.is_set():
            return
        yield chunk


def _conclude(call: Any) -> None:
    """Waits for the end of a stream whose requests end; cancels it if it takes too long, e.g.
    since no chunk comes that would show the sender that it is left."""
    impatience = threading.Timer(_LEAVING_S, call.cancel)
    impatience.start()
    with contextlib.suppress(grpc.RpcError):
        for _ in call:
            pass
    impatience.cancel()


def _too_large(request: Message) -> bool:
    return request.ByteSize() > messages.MAX_MESSAGE_BYTES
