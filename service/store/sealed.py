"""Encodes speakers for a store, and seals them if there is a master key.

    Speaker ─> rotate vectors ─> encode ─> seal with the current key ─> NewRecords ─> store
    Speaker <─ rotate back <─ decode <─ open with the record's key <─ StoredRecords <─ store

Records from before there was a master key are read unsealed, and sealed when next written. Once all
records of a tenant are known to be sealed, unsealed ones are refused.
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
_DAY_S = 86_400
_Transform = Callable[[Voiceprint], Voiceprint]


@dataclass(frozen=True, slots=True)
class StoredRecords:
    """The records of a speaker as read; `voiceprints` are `(model_id, record, used_at)`."""

    speaker_id: str
    etag: str
    profile: bytes
    history: bytes
    voiceprints: Sequence[tuple[str, bytes, float | None]]

    @property
    def records(self) -> list[bytes]:
        """The records that are not empty."""
        voiceprints = [record for _, record, _ in self.voiceprints]
        return [record for record in (self.profile, self.history, *voiceprints) if record]

    @property
    def key_versions(self) -> set[int]:
        """The versions of the keys that open the records."""
        return {read_key_version(record) for record in self.records if is_sealed(record)}

    @property
    def has_rotated_vectors(self) -> bool:
        """Whether any of the records holds rotated vectors."""
        return any(is_rotated(record) for record in self.records)

    def decode(self, tenant: str) -> Speaker:
        """Decode records that are not sealed; raises RecordError."""
        return decode_speaker(
            tenant,
            self.speaker_id,
            etag=self.etag,
            profile=self.profile,
            history=self.history,
            voiceprints=self.voiceprints,
        )


@dataclass(frozen=True, slots=True)
class NewRecords(StoredRecords):
    """The records of a speaker to write if `key_version`, 0 for unsealed, is the tenant's current
    one."""

    tenant: str
    key_version: int
    opted_out_at: float | None


class RecordCodec:
    """Encodes and decodes speakers, with keys from `table` if there is a `sealing`."""

    def __init__(self, table: KeyTable, sealing: Sealing | None) -> None:
        self._sealing = sealing
        self.observe_unreadable: Callable[[], None] = lambda: None
        self.keyring = Keyring(table, sealing.kms, clock=sealing.clock) if sealing else None

    def require_keys(self) -> tuple[Keyring, Sealing]:
        """Raise Unavailable where there is no master key."""
        if self.keyring is None or self._sealing is None:
            raise Unavailable(
                "the records of this tenant are sealed, or are to be, and there is no master key: "
                "set SAYSO_MASTER_KEY_FILE or SAYSO_VAULT_ADDRESS"
            )
        return self.keyring, self._sealing

    async def write(
        self, speaker: Speaker, attempt: Callable[[NewRecords], Awaitable[bool]]
    ) -> None:
        """Seal the speaker and call `attempt` to write it. If that returns False, the key is not
        current: seal again with the current one."""
        for number in range(_ATTEMPTS):
            if await attempt(await self._encode(speaker, fresh=number > 0)):
                return
            self.require_keys()
        raise Aborted("the keys of the tenant change too fast: read the speaker again and retry")

    async def decode(self, tenant: str, stored: StoredRecords) -> Speaker:
        """Raise RecordError for a record of another tenant or speaker, torn or changed, or whose
        key was destroyed; FailedPrecondition once the tenant's key is erased."""
        if self.keyring is None:
            return self._decode_plain(tenant, stored)
        keys = await self._load_keys(tenant, stored.key_versions)
        strict = await self._refuses_plain(tenant, [stored])
        if stored.has_rotated_vectors:
            return await asyncio.to_thread(_decode_sealed, tenant, stored, keys, strict=strict)
        return _decode_sealed(tenant, stored, keys, strict=strict)

    async def decode_readable(self, tenant: str, stored: Sequence[StoredRecords]) -> list[Speaker]:
        """Decode the speakers whose records can be read and report the others, so that one damaged
        record does not hide the rest. Raises FailedPrecondition as `decode` does."""
        if self.keyring is None:
            decode = partial(self._decode_plain, tenant)
        else:
            versions = set[int]().union(*(each.key_versions for each in stored))
            keys = await self._load_keys(tenant, versions)
            strict = await self._refuses_plain(tenant, stored)
            decode = partial(_decode_sealed, tenant, keys=keys, strict=strict)

        def decode_all() -> list[Speaker | RecordError]:
            return [_decode_or_error(decode, each) for each in stored]

        results = await asyncio.to_thread(decode_all) if len(stored) > 1 else decode_all()
        for result in results:
            if isinstance(result, RecordError):
                self.report_unreadable(tenant, result)
        return [result for result in results if isinstance(result, Speaker)]

    async def seal_event(self, tenant: str, at: float, plain: bytes) -> bytes:
        """Seal an event that happens `at` with the tenant's current key, if there is a master
        key."""
        if self.keyring is None:
            return plain
        key, place = await self.keyring.load_sealing_key(tenant), _place_event(tenant, at)
        cipher = key.cipher_for_events(place.speaker_id)
        return seal_record(key, cipher, place, plain, templates_rotated=False)

    async def open_event(self, tenant: str, at: float, record: bytes) -> bytes:
        """Undo `seal_event`; raises as `decode`."""
        if not is_sealed(record):
            return record
        version = read_key_version(record)
        keys, place = await self._load_keys(tenant, {version}), _place_event(tenant, at)
        if version not in keys:
            raise RecordError("an event is sealed by a key that was destroyed")
        ciphers = {version: keys[version].cipher_for_events(place.speaker_id)}
        return _open_record(ciphers, place, record)

    def report_unreadable(self, tenant: str, error: RecordError) -> None:
        """Count and log a record that is left out."""
        self.observe_unreadable()
        log.error(
            "a record of tenant %s is left out: %s; `sayso tenants check` names it", tenant, error
        )

    def _decode_plain(self, tenant: str, stored: StoredRecords) -> Speaker:
        """Decode what was written without a master key. Raises Unavailable for a sealed record."""
        try:
            return stored.decode(tenant)
        except RecordError:
            if stored.key_versions:  # no sealed record can be decoded as a plain one
                self.require_keys()
            raise

    async def _load_keys(self, tenant: str, versions: set[int]) -> Mapping[int, DataKey]:
        """Load the keys by version; those that were destroyed are missing."""
        if not versions:
            return {}
        keyring, _ = self.require_keys()
        keys = await keyring.load_keys(tenant)
        return keys if versions <= keys.keys() else await keyring.load_keys(tenant, fresh=True)

    async def _encode(self, speaker: Speaker, *, fresh: bool) -> NewRecords:
        if self.keyring is None:
            return _encode_speaker(speaker)
        keyring, sealing = self.require_keys()
        key = await keyring.load_sealing_key(speaker.tenant, fresh=fresh)
        if sealing.options.protect_templates:
            return await asyncio.to_thread(_seal_speaker, speaker, key, templates_rotated=True)
        return _seal_speaker(speaker, key, templates_rotated=False)

    async def _refuses_plain(self, tenant: str, stored: Sequence[StoredRecords]) -> bool:
        """Whether unsealed records are refused; looks that up only if there are any."""
        if self._sealing is None or self.keyring is None or all(map(_is_sealed, stored)):
            return False
        if self._sealing.options.sealed_only is None:
            return await self.keyring.knows_all_sealed(tenant)
        return self._sealing.options.sealed_only


def _place_event(tenant: str, at: float) -> Place:
    return Place(tenant, f"{int(at // _DAY_S)}", Kind.EVENT)


def _decode_or_error(
    decode: Callable[[StoredRecords], Speaker], stored: StoredRecords
) -> Speaker | RecordError:
    try:
        return decode(stored)
    except RecordError as error:
        return error


def _decode_sealed(
    tenant: str, stored: StoredRecords, keys: Mapping[int, DataKey], *, strict: bool
) -> Speaker:
    if strict:
        _require_sealed(stored)
    if not stored.key_versions <= keys.keys():
        raise RecordError("a stored record is sealed by a key that was destroyed")
    return _decode_opened(tenant, stored, keys)


def _is_sealed(stored: StoredRecords) -> bool:
    return all(map(is_sealed, stored.records))


def _require_sealed(stored: StoredRecords) -> None:
    if not _is_sealed(stored):
        raise RecordError(
            "a stored record is not sealed, and this server reads no other: it was put there by "
            "someone else, or `sayso tenants seal` was not run"
        )


def _encode_speaker(speaker: Speaker) -> NewRecords:
    return NewRecords(
        speaker.speaker_id,
        speaker.etag,
        encode_profile(speaker),
        encode_history(speaker.history),
        tuple(
            (model_id, encode_voiceprint(voiceprint), voiceprint.used_at)
            for model_id, voiceprint in speaker.voiceprints.items()
        ),
        tenant=speaker.tenant,
        key_version=0,
        opted_out_at=speaker.opted_out_at,
    )


def _seal_speaker(speaker: Speaker, key: DataKey, *, templates_rotated: bool) -> NewRecords:
    if templates_rotated:
        transform = partial(_rotate, key)
        speaker = _transform_vectors(speaker, transform, transform)
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


def _open_records(tenant: str, stored: StoredRecords, keys: Mapping[int, DataKey]) -> StoredRecords:
    ciphers = {
        version: keys[version].cipher_for(stored.speaker_id) for version in stored.key_versions
    }

    def open_(kind: Kind, record: bytes, model_id: str = "") -> bytes:
        return _open_record(ciphers, Place(tenant, stored.speaker_id, kind, model_id), record)

    return replace(
        stored,
        profile=open_(Kind.PROFILE, stored.profile),
        history=open_(Kind.HISTORY, stored.history),
        voiceprints=tuple(
            (model_id, open_(Kind.VOICEPRINT, record, model_id), used_at)
            for model_id, record, used_at in stored.voiceprints
        ),
    )


def _open_record(ciphers: Mapping[int, AESGCM], place: Place, record: bytes) -> bytes:
    if not is_sealed(record):
        return record
    try:
        return open_record(ciphers[read_key_version(record)], place, record)
    except InvalidTag as error:
        raise RecordError(
            "a stored record does not open: it was changed, or is of another speaker, tenant or "
            "model than its place says"
        ) from error


def _decode_opened(tenant: str, stored: StoredRecords, keys: Mapping[int, DataKey]) -> Speaker:
    speaker = _open_records(tenant, stored, keys).decode(tenant)
    if not stored.has_rotated_vectors:
        return speaker
    records = {model_id: record for model_id, record, _ in stored.voiceprints}
    return _transform_vectors(
        speaker,
        lambda voiceprint: _rotate_back(keys, records[voiceprint.model_id], voiceprint),
        lambda voiceprint: _rotate_back(keys, stored.history, voiceprint),
    )


def _transform_vectors(
    speaker: Speaker, transform: _Transform, transform_earlier: _Transform
) -> Speaker:
    history = tuple(
        replace(version, voiceprints=_transform_all(version.voiceprints, transform_earlier))
        for version in speaker.history
    )
    return replace(
        speaker, voiceprints=_transform_all(speaker.voiceprints, transform), history=history
    )


def _transform_all(
    voiceprints: Mapping[str, Voiceprint], transform: _Transform
) -> dict[str, Voiceprint]:
    return {model_id: transform(voiceprint) for model_id, voiceprint in voiceprints.items()}


def _rotate(key: DataKey, voiceprint: Voiceprint) -> Voiceprint:
    return replace(voiceprint, vectors=key.rotate(voiceprint.model_id, voiceprint.vectors))


def _rotate_back(keys: Mapping[int, DataKey], record: bytes, voiceprint: Voiceprint) -> Voiceprint:
    """Undo the rotation if the voiceprint's `record` says that there was one."""
    if not is_rotated(record):
        return voiceprint
    key = keys[read_key_version(record)]
    return replace(voiceprint, vectors=key.rotate_back(voiceprint.model_id, voiceprint.vectors))
