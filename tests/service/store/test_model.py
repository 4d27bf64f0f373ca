"""Whatever is done to a store, it answers as a dictionary would."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from service.errors import Aborted
from service.store import (
    Consent,
    Speaker,
    SpeakerState,
    Store,
    Version,
    Voiceprint,
    open_store,
    update,
)
from tests.support.redis_server import RedisServer

_T = TypeVar("_T")
_TENANTS = count()
_RESOLUTION_S = 60.0

IDS = st.sampled_from(["alice", "bob", "a:b", "Алиса", "{x}"])
MODELS = ("model-a", "model-b")
SIDES = st.sampled_from([0, 1])
"""Which of two tenants."""


@st.composite
def voices(draw: st.DrawFn) -> dict[str, Voiceprint]:
    made = {}
    for model_id in draw(st.sets(st.sampled_from(MODELS))):
        vectors = np.full((draw(st.integers(1, 3)), 4), draw(st.integers(0, 9)), np.float32)
        speech_s = np.ones(len(vectors), np.float32)
        used_at = draw(st.none() | st.just(50.0))
        made[model_id] = Voiceprint(model_id, vectors, speech_s, 1.0, used_at)
    return made


@st.composite
def speakers(draw: st.DrawFn) -> Speaker:
    """Of no tenant and no id yet."""
    consent = draw(st.none() | st.just(Consent("form 27", 3.0)))
    history = (Version(SpeakerState.PENDING, draw(voices())),) if draw(st.booleans()) else ()
    return Speaker(
        *("?", "?", draw(st.sampled_from(SpeakerState)), 1.0, 2.0),
        voiceprints=draw(voices()),
        metadata=draw(st.dictionaries(st.sampled_from("ab"), st.text(max_size=3), max_size=2)),
        consent=consent,
        history=history,
    )


class Machine(RuleBasedStateMachine):
    """Two tenants of a store, and what they should hold."""

    def __init__(self, open_: Callable[[], Store]) -> None:
        super().__init__()
        self._open = open_
        self._runner = asyncio.Runner()
        number = next(_TENANTS)
        self._tenants = (f"model-{number}", f"model-{number}-other")
        self._held: dict[tuple[str, str], Speaker] = {}
        self._stale = "0" * 16

    @initialize()
    def open(self) -> None:
        self._store: Store = self._run(self._open().__aenter__())

    def teardown(self) -> None:
        if hasattr(self, "_store"):
            self._run(self._store.aclose())
        self._runner.close()

    def _run(self, work: Awaitable[_T]) -> _T:
        async def wait() -> _T:
            return await work

        return self._runner.run(wait())

    def _write(self, speaker: Speaker, expected: str | None) -> None:
        """As told, or refused where the dictionary holds another version."""
        key = speaker.tenant, speaker.speaker_id
        held = self._held.get(key)
        if (held.etag if held else None) != expected:
            with pytest.raises(Aborted):
                self._run(self._store.put(speaker, expected_etag=expected))
            return
        written = self._run(self._store.put(speaker, expected_etag=expected))
        assert written.etag
        assert written.etag != expected
        self._keep(key, speaker, written.etag)

    def _keep(self, key: tuple[str, str], speaker: Speaker, etag: str) -> None:
        held = self._held.get(key)
        if held:
            self._stale = held.etag
        prints = _uses_kept(speaker.voiceprints, held.voiceprints if held else {})
        history = tuple(
            replace(each, voiceprints=_unused(each.voiceprints)) for each in speaker.history
        )
        self._held[key] = replace(speaker, voiceprints=prints, history=history, etag=etag)

    @rule(side=SIDES, speaker_id=IDS, speaker=speakers())
    def create(self, side: int, speaker_id: str, speaker: Speaker) -> None:
        self._write(replace(speaker, tenant=self._tenants[side], speaker_id=speaker_id), None)

    @rule(side=SIDES, speaker_id=IDS, speaker=speakers())
    def replace_(self, side: int, speaker_id: str, speaker: Speaker) -> None:
        held = self._held.get((self._tenants[side], speaker_id))
        made = replace(speaker, tenant=self._tenants[side], speaker_id=speaker_id)
        self._write(made, held.etag if held else self._stale)

    @rule(side=SIDES, speaker_id=IDS, speaker=speakers())
    def replace_what_has_changed(self, side: int, speaker_id: str, speaker: Speaker) -> None:
        made = replace(speaker, tenant=self._tenants[side], speaker_id=speaker_id)
        self._write(made, self._stale)

    @rule(side=SIDES, speaker_id=IDS, speaker=speakers())
    def update(self, side: int, speaker_id: str, speaker: Speaker) -> None:
        key = self._tenants[side], speaker_id
        made = replace(speaker, tenant=key[0], speaker_id=speaker_id)

        def change(found: Speaker | None) -> Speaker:
            assert found == self._held.get(key)
            return made

        written = self._run(update(self._store, *key, change))
        self._keep(key, made, written.etag)

    @rule(side=SIDES, speaker_id=IDS, etag=st.sampled_from(["any", "held", "stale"]))
    def delete(self, side: int, speaker_id: str, etag: str) -> None:
        key = self._tenants[side], speaker_id
        held = self._held.get(key)
        expected = {"any": None, "held": held.etag if held else None, "stale": self._stale}[etag]
        if held and expected not in (None, held.etag):
            with pytest.raises(Aborted):
                self._run(self._store.delete(*key, expected_etag=expected))
            return
        assert self._run(self._store.delete(*key, expected_etag=expected)) is bool(held)
        if held:
            self._stale = held.etag
            del self._held[key]

    @rule(
        side=SIDES,
        speaker_id=IDS,
        model_id=st.sampled_from(MODELS),
        at=st.sampled_from([40.0, 100.0, 130.0, 160.0, 300.0]),
    )
    def touch(self, side: int, speaker_id: str, model_id: str, at: float) -> None:
        key = self._tenants[side], speaker_id
        self._run(self._store.touch(*key, model_id, at=at))
        held = self._held.get(key)
        if held is None or model_id not in held.voiceprints:
            return
        voice = held.voiceprints[model_id]
        if voice.used_at is None or voice.used_at <= at - _RESOLUTION_S:
            prints = {**held.voiceprints, model_id: replace(voice, used_at=at)}
            self._held[key] = replace(held, voiceprints=prints)

    @rule(side=SIDES, speaker_id=IDS)
    def get(self, side: int, speaker_id: str) -> None:
        key = self._tenants[side], speaker_id
        assert self._run(self._store.get(*key)) == self._held.get(key)

    @rule(side=SIDES, speaker_ids=st.lists(IDS, unique=True))
    def get_many(self, side: int, speaker_ids: list[str]) -> None:
        found = self._run(self._store.get_many(self._tenants[side], speaker_ids))
        wanted = [self._held.get((self._tenants[side], each)) for each in speaker_ids]
        assert _by_id(found) == _by_id([each for each in wanted if each])

    @rule(side=SIDES, limit=st.integers(1, 6))
    def list(self, side: int, limit: int) -> None:
        tenant, after = self._tenants[side], None
        found: list[Speaker] = []
        while True:
            page = self._run(self._store.list(tenant, limit=limit, after=after))
            assert len(page.speakers) <= limit
            found += page.speakers
            if (after := page.next_after) is None:
                break
        assert found == self._speakers(tenant)

    @invariant()
    def counted(self) -> None:
        if hasattr(self, "_store"):
            for tenant in self._tenants:
                assert self._run(self._store.count(tenant)) == len(self._speakers(tenant))

    def _speakers(self, tenant: str) -> Any:
        return [held for (whose, _), held in sorted(self._held.items()) if whose == tenant]


def _by_id(speakers: Any) -> dict[str, Speaker]:
    return {each.speaker_id: each for each in speakers}


def _uses_kept(
    new: Mapping[str, Voiceprint], held: Mapping[str, Voiceprint]
) -> dict[str, Voiceprint]:
    """`used_at` is the store's for a voiceprint that it has."""
    return {
        model_id: replace(voice, used_at=held[model_id].used_at) if model_id in held else voice
        for model_id, voice in new.items()
    }


def _unused(voiceprints: Mapping[str, Voiceprint]) -> dict[str, Voiceprint]:
    return {model_id: replace(voice, used_at=None) for model_id, voice in voiceprints.items()}


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_it_answers_as_a_dictionary_would(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if kind == "sqlite":
        address = f"sqlite:///{tmp_path_factory.mktemp('model') / 'voices.db'}"
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        address = server.url

    def open_() -> Store:
        return open_store(address, timeout_s=10.0)

    chosen = settings(
        max_examples=200 if request.config.getoption("--long", default=False) else 15,
        stateful_step_count=30,
        deadline=None,
        phases=[Phase.generate],  # to shrink what fails takes minutes
        suppress_health_check=list(HealthCheck),
    )
    machine: Any = lambda: Machine(open_)  # noqa: E731
    run_state_machine_as_test(machine, settings=chosen)
