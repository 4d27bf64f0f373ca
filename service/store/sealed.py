"""Between speakers and the bytes that a store keeps: sealed where there is a master key.

    Speaker > vectors rotated > encoded > sealed by the tenant's current key > Written > store
    Speaker < rotated back < decoded < opened by the key that the record names < Stored < store

Records from before there was a master key are read as they are, and sealed when next written, until
all of the tenant's are known to be sealed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.errors import Aborted, Unavailable
from service.sealing import Keyring, KeyTable, Sealing
from service.sealing.envelope import (
    DataKey,
    Kind,
    Place,
    is_rotated,
    is_sealed,
    open_record,
    read_key_version,
    seal_record,
)
from service.store.records import (
    RecordError,
    Speaker,
    Voiceprint,
    decode_speaker,
    encode_history,
    encode_profile,
    encode_voiceprint,
)

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_Turn = Callable[[Voiceprint], Voiceprint]


@dataclass(frozen=True, slots=True)
class Stored:
    """A speaker as read; `voiceprints` are `(model_id, record, used_at)`."""

    speaker_id: str
    etag: str
    profile: bytes
    history: bytes
    voiceprints: Sequence[tuple[str, bytes, float | None]]

    @property
    def records(self) -> list[bytes]:
        held = [record for _, record, _ in self.voiceprints]
        return [record for record in (self.profile, self.history, *held) if record]

    @property
    def versions(self) -> set[int]:
        """Of the keys that it takes to open the records."""
        return {read_key_version(record) for record in self.records if is_sealed(record)}

    @property
    def has_rotated_vectors(self) -> bool:
        """Whether any of the records holds rotated vectors."""
        return any(is_rotated(record) for record in self.records)

    def decode(self, tenant: str) -> Speaker:
        """Decodes records that are not sealed; raises RecordError."""
        return decode_speaker(
            tenant,
            self.speaker_id,
            etag=self.etag,
            profile=self.profile,
            history=self.history,
            voiceprints=self.voiceprints,
        )


@dataclass(frozen=True, slots=True)
class Written(Stored):
    """A speaker to write, if `key_version` is the tenant's current one; 0 for not sealed."""

    tenant: str
    key_version: int
    opted_out_at: float | None


class Records:
    """Encodes and decodes speakers, with keys from `table` if there is a `sealing`."""

    def __init__(self, table: KeyTable, sealing: Sealing | None) -> None:
        self._sealing = sealing
        self.observe_unreadable: Callable[[], None] = lambda: None
        self.keyring = Keyring(table, sealing.kms, clock=sealing.clock) if sealing else None

    def require_keys(self) -> tuple[Keyring, Sealing]:
        """Raises Unavailable where there is no master key."""
        if self.keyring is None or self._sealing is None:
            raise Unavailable(
                "the records of this tenant are sealed, or are to be, and there is no master key: "
                "set SAYSO_MASTER_KEY_FILE or SAYSO_VAULT_ADDRESS"
            )
        return self.keyring, self._sealing

    async def write(self, speaker: Speaker, attempt: Callable[[Written], Awaitable[bool]]) -> None:
        """Seal and call `attempt`, again if it returns False because the key is not current."""
        for number in range(_ATTEMPTS):
            if await attempt(await self._encoded(speaker, fresh=number > 0)):
                return
            self.require_keys()
        raise Aborted("the keys of the tenant change too fast: read the speaker again and retry")

    async def decode(self, tenant: str, stored: Stored) -> Speaker:
        """Raises RecordError for a record of another tenant or speaker, torn or changed, or whose
        key was destroyed; FailedPrecondition once the tenant's key is erased."""
        if self.keyring is None:
            return self._decode_plain(tenant, stored)
        keys = await self._keys(tenant, stored.versions)
        strict = await self._refuses_plain(tenant, [stored])
        if stored.has_rotated_vectors:
            return await asyncio.to_thread(_decode_sealed, tenant, stored, keys, strict=strict)
        return _decode_sealed(tenant, stored, keys, strict=strict)

    async def decode_readable(self, tenant: str, stored: Sequence[Stored]) -> list[Speaker]:
        """Decode the speakers whose records can be read and report the others, so that one damaged
        record does not hide the rest. Raises FailedPrecondition as `decode` does."""
        if self.keyring is None:
            decode = partial(self._decode_plain, tenant)
        else:
            versions = set[int]().union(*(each.versions for each in stored))
            keys = await self._keys(tenant, versions)
            strict = await self._refuses_plain(tenant, stored)
            decode = partial(_decode_sealed, tenant, keys=keys, strict=strict)

        def decode_all() -> list[Speaker | RecordError]:
            return [_attempt(decode, each) for each in stored]

        found = await asyncio.to_thread(decode_all) if len(stored) > 1 else decode_all()
        for each in found:
            if isinstance(each, RecordError):
                self.report_unreadable(tenant, each)
        return [each for each in found if isinstance(each, Speaker)]

    def report_unreadable(self, tenant: str, error: RecordError) -> None:
        """Count and log a record that is left out."""
        self.observe_unreadable()
        log.error(
            "a record of tenant %s is left out: %s; `sayso tenants check` names it", tenant, error
        )

    def _decode_plain(self, tenant: str, stored: Stored) -> Speaker:
        """Decodes what was written without a master key. Raises Unavailable for a sealed record."""
        try:
            return stored.decode(tenant)
        except RecordError:
            if stored.versions:  # no sealed record can be decoded as a plain one
                self.require_keys()
            raise

    async def _keys(self, tenant: str, versions: set[int]) -> Mapping[int, DataKey]:
        """Those that there are."""
        if not versions:
            return {}
        keyring, _ = self.require_keys()
        keys = await keyring.load_keys(tenant)
        return keys if versions <= keys.keys() else await keyring.load_keys(tenant, fresh=True)

    async def _encoded(self, speaker: Speaker, *, fresh: bool) -> Written:
        if self.keyring is None:
            return _encode_speaker(speaker)
        keyring, sealing = self.require_keys()
        key = await keyring.load_sealing_key(speaker.tenant, fresh=fresh)
        if sealing.options.protect_templates:
            return await asyncio.to_thread(_sealed, speaker, key, templates_rotated=True)
        return _sealed(speaker, key, templates_rotated=False)

    async def _refuses_plain(self, tenant: str, stored: Sequence[Stored]) -> bool:
        """Whether records that are not sealed are refused; asks only if there are such."""
        if self._sealing is None or self.keyring is None or all(map(_is_sealed, stored)):
            return False
        if self._sealing.options.sealed_only is None:
            return await self.keyring.knows_all_sealed(tenant)
        return self._sealing.options.sealed_only


def _attempt(decode: Callable[[Stored], Speaker], stored: Stored) -> Speaker | RecordError:
    try:
        return decode(stored)
    except RecordError as error:
        return error


def _decode_sealed(
    tenant: str, stored: Stored, keys: Mapping[int, DataKey], *, strict: bool
) -> Speaker:
    if strict:
        _require_sealed(stored)
    if not stored.versions <= keys.keys():
        raise RecordError("a stored record is sealed by a key that was destroyed")
    return _speaker(tenant, stored, keys)


def _is_sealed(stored: Stored) -> bool:
    return all(map(is_sealed, stored.records))


def _require_sealed(stored: Stored) -> None:
    if not _is_sealed(stored):
        raise RecordError(
            "a stored record is not sealed, and this server reads no other: it was put there by "
            "someone else, or `sayso tenants seal` was not run"
        )


def _encode_speaker(speaker: Speaker) -> Written:
    return Written(
        speaker.speaker_id,
        speaker.etag,
        encode_profile(speaker),
        encode_history(speaker.history),
        tuple(
            (model_id, encode_voiceprint(held), held.used_at)
            for model_id, held in speaker.voiceprints.items()
        ),
        tenant=speaker.tenant,
        key_version=0,
        opted_out_at=speaker.opted_out_at,
    )


def _sealed(speaker: Speaker, key: DataKey, *, templates_rotated: bool) -> Written:
    if templates_rotated:
        turn = partial(_rotate, key)
        speaker = _with_vectors(speaker, turn, turn)
    plain, cipher = _encode_speaker(speaker), key.cipher_for(speaker.speaker_id)

    def seal(kind: Kind, record: bytes, model_id: str = "") -> bytes:
        place = Place(speaker.tenant, speaker.speaker_id, kind, model_id)
        return seal_record(key, cipher, place, record, templates_rotated=templates_rotated)

    return replace(
        plain,
        profile=seal(Kind.PROFILE, plain.profile),
        history=seal(Kind.HISTORY, plain.history),
        voiceprints=tuple(
            (model_id, seal(Kind.VOICEPRINT, record, model_id), used_at)
            for model_id, record, used_at in plain.voiceprints
        ),
        key_version=key.version,
    )


def _open_records(tenant: str, stored: Stored, keys: Mapping[int, DataKey]) -> Stored:
    ciphers = {version: keys[version].cipher_for(stored.speaker_id) for version in stored.versions}

    def open_(kind: Kind, record: bytes, model_id: str = "") -> bytes:
        return _plain(ciphers, Place(tenant, stored.speaker_id, kind, model_id), record)

    return replace(
        stored,
        profile=open_(Kind.PROFILE, stored.profile),
        history=open_(Kind.HISTORY, stored.history),
        voiceprints=tuple(
            (model_id, open_(Kind.VOICEPRINT, record, model_id), used_at)
            for model_id, record, used_at in stored.voiceprints
        ),
    )


def _plain(ciphers: Mapping[int, AESGCM], place: Place, record: bytes) -> bytes:
    if not is_sealed(record):
        return record
    try:
        return open_record(ciphers[read_key_version(record)], place, record)
    except InvalidTag as error:
        raise RecordError(
            "a stored record does not open: it was changed, or is of another speaker, tenant or "
            "model than its place says"
        ) from error


def _speaker(tenant: str, stored: Stored, keys: Mapping[int, DataKey]) -> Speaker:
    speaker = _open_records(tenant, stored, keys).decode(tenant)
    if not stored.has_rotated_vectors:
        return speaker
    records = {model_id: record for model_id, record, _ in stored.voiceprints}
    return _with_vectors(
        speaker,
        lambda held: _rotate_back(keys, records[held.model_id], held),
        lambda held: _rotate_back(keys, stored.history, held),
    )


def _with_vectors(speaker: Speaker, turn: _Turn, turn_earlier: _Turn) -> Speaker:
    history = tuple(
        replace(version, voiceprints=_each(version.voiceprints, turn_earlier))
        for version in speaker.history
    )
    return replace(speaker, voiceprints=_each(speaker.voiceprints, turn), history=history)


def _each(held: Mapping[str, Voiceprint], turn: _Turn) -> dict[str, Voiceprint]:
    return {model_id: turn(voiceprint) for model_id, voiceprint in held.items()}


def _rotate(key: DataKey, held: Voiceprint) -> Voiceprint:
    return replace(held, vectors=key.rotate(held.model_id, held.vectors))


def _rotate_back(keys: Mapping[int, DataKey], record: bytes, held: Voiceprint) -> Voiceprint:
    """As the record says of itself."""
    if not is_rotated(record):
        return held
    vectors = keys[read_key_version(record)].rotate_back(held.model_id, held.vectors)
    return replace(held, vectors=vectors)
