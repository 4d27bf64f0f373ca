"""Calls: the audio of each to the server, and its decisions back.

    open ──> whose call is it? announced to the server, else claimed by the media, else refused
    hear ──> buffer ──> stream of the client ──> answer(decision), as they come
    finish ─> the last decision

A connection that breaks leaves its call waiting for `reconnect_s`: whoever comes back with the same
call, the same claim and the same credential goes on with it.

A call that the server does not take in time, or refuses, is given up: the platform's connection
goes on, and its audio is dropped.
"""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sayso import AsyncClient, Decision, NotFound, RawAudio, SaysoError, SequentialTest

from gateway import metrics
from gateway.buffer import AudioBuffer
from gateway.clients import Clients
from gateway.errors import CallRefused, GatewayError
from gateway.settings import CallLimits

log = logging.getLogger(__name__)

Answer = Callable[[Decision], Awaitable[None]]
"""Tells the platform of a decision; must not raise if the platform is gone."""

MAX_ID_CHARACTERS = 128
_SAMPLE_BYTES = {"LINEAR16": 2}
_REMEMBERED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class CallStart:
    """What a platform says of a call when it begins: its own id of the call, how the audio is
    encoded, the caller's channel of it, and who is claimed to be calling (empty: it cannot say)."""

    call_id: str
    raw: RawAudio
    channel: int | None = None
    speaker_id: str = ""

    def __post_init__(self) -> None:
        for name in (self.call_id, self.speaker_id):
            if len(name) > MAX_ID_CHARACTERS or not name.isprintable():
                raise CallRefused("an id is over 128 characters, or holds control characters")
        if not self.call_id:
            raise CallRefused("the call has no id")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who is claimed to be calling, one of several, and the policy to decide by (empty: the
    server's default)."""

    speaker_ids: tuple[str, ...]
    policy: str


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What is remembered of a call, without its audio: `ended_at` is None while it goes on,
    `decision` is the latest, `credential` None the gateway's own."""

    call_id: str
    credential: str | None = field(repr=False)
    started_at: datetime
    ended_at: datetime | None
    decision: Decision | None


class Calls:
    """All calls in progress. `policy` is for calls that are not announced; as many as `remembered`
    of those that ended are found for an hour."""

    def __init__(
        self,
        clients: Clients,
        limits: CallLimits,
        *,
        policy: str = "",
        require_announced: bool = False,
        remembered: int = 0,
    ) -> None:
        self._clients = clients
        self._limits = limits
        self._policy = policy
        self._require_announced = require_announced
        self._open: set[LiveCall] = set()
        self._ended: deque[CallRecord] = deque(maxlen=remembered)
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def draining(self) -> bool:
        """Whether no call is taken any more."""
        return self._draining

    @property
    def accepting(self) -> bool:
        """Whether there is room for another call."""
        return not self._draining and len(self._open) < self._limits.max_calls

    async def drain(self, within_s: float) -> None:
        """Take no new call, and wait for the calls in progress to end by themselves."""
        self._draining = True
        for live in self._open:
            live.give_up_waiting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()

    def find(self, call_id: str, credential: str, *, now: datetime) -> "CallRecord | None":
        """The latest call of this id that was verified with this credential, in progress or ended
        within the last hour."""
        while self._ended and now - (self._ended[0].ended_at or now) > _REMEMBERED:
            self._ended.popleft()
        calls = [*self._ended, *(live.make_record() for live in self._open)]
        own = self._clients.own_credential
        matching = [
            call
            for call in calls
            if call.call_id == call_id and (call.credential or own) == credential
        ]
        return max(matching, key=lambda call: call.started_at, default=None)

    @contextlib.asynccontextmanager
    async def open(
        self,
        start: CallStart,
        answer: Answer,
        *,
        credential: str | None = None,
        announced: bool = False,
        resume_as: str | None = None,
    ) -> AsyncIterator["LiveCall"]:
        """Verify a call until this is left. With `announced` the media's own claim is not enough.
        One that was lost is gone on with if the same is `resume_as`, which names the credential
        that the platform has shown; None is of platforms that do not come back.

        Raises `CallRefused`.
        """
        if not self.accepting:
            metrics.count_refusal("full")
            raise CallRefused("the gateway is full or about to stop", "full")
        if (lost := self._find_lost(start, resume_as)) is not None:
            async with lost.resume(answer):
                yield lost
            return
        live = LiveCall(start, answer, self._limits, credential, resume_as)
        self._open.add(live)
        self._idle.clear()
        try:
            async with self._clients.use(credential) as client:
                claim = await self._find_claim(client, start, announced)
                with metrics.count_call(live.get_outcome):
                    async with live.verify(client, claim):
                        yield live
                        await live.wait_for_return()
        except SaysoError as error:
            metrics.count_refusal("unreachable")
            raise CallRefused(f"the server was not reached: {error.message}") from error
        except CallRefused as refused:
            metrics.count_refusal(refused.reason)
            raise
        finally:
            self._open.discard(live)
            self._ended.append(live.make_record(ended_at=datetime.now(UTC)))
            if not self._open:
                self._idle.set()

    def _find_lost(self, start: CallStart, resume_as: str | None) -> "LiveCall | None":
        lost = (live for live in self._open if live.is_resumed_by(start, resume_as))
        return next(lost, None)

    async def _find_claim(self, client: AsyncClient, start: CallStart, announced: bool) -> Claim:
        """An announcement counts more than what the media claims."""
        try:
            call = await client.take_call(start.call_id)
        except NotFound:
            if announced or self._require_announced:
                raise CallRefused(
                    "the call was not announced; announce it first", "unannounced"
                ) from None
            if not start.speaker_id:
                raise CallRefused(
                    "the call claims nobody and was not announced: announce it, or have the "
                    "platform send a speaker_id",
                    "unclaimed",
                ) from None
            return Claim((start.speaker_id,), self._policy)
        return Claim(call.speaker_ids, call.policy)


class LiveCall:
    """One call in progress."""

    def __init__(
        self,
        start: CallStart,
        answer: Answer,
        limits: CallLimits,
        credential: str | None = None,
        resume_as: str | None = None,
    ) -> None:
        self._start = start
        self._resume_as = resume_as
        self._lost = self._resumed = False
        self._news = asyncio.Event()
        self._credential = credential
        self._started_at = datetime.now(UTC)
        self._answer = answer
        self._limits = limits
        raw = start.raw
        second_bytes = raw.sample_rate * raw.channels * _SAMPLE_BYTES.get(raw.encoding, 1)
        self._left_bytes = math.ceil(limits.max_call_s * second_bytes)
        self._buffer = AudioBuffer(
            message_bytes=round(limits.message_s / 2 * second_bytes),
            max_bytes=math.ceil(limits.buffer_s * second_bytes),
        )
        self._verifying: asyncio.Task[None] | None = None
        self.decision: Decision | None = None

    def make_record(self, ended_at: datetime | None = None) -> CallRecord:
        """The call as it stands."""
        return CallRecord(
            self._start.call_id, self._credential, self._started_at, ended_at, self.decision
        )

    def get_outcome(self) -> str | None:
        """The outcome as it stands; None before the first decision."""
        return None if self.decision is None else self.decision.outcome

    @property
    def done(self) -> bool:
        """Whether the last decision is there, or there will be none."""
        return self._verifying is not None and self._verifying.done()

    async def hear(self, audio: bytes) -> None:
        """Take the next audio of the caller. If the server takes none for `stall_s`, the call is
        given up."""
        self._left_bytes -= len(audio)
        if self._left_bytes < 0:
            self._buffer.end()
            return
        if self._buffer.add(audio):
            return
        try:
            async with asyncio.timeout(self._limits.stall_s):
                await self._buffer.put(audio)
        except TimeoutError:
            log.warning("call %s: the server takes no audio; given up", self._start.call_id)
            self._give_up()

    def lose(self) -> None:
        """The connection broke; the platform may come back."""
        if self._resume_as is not None and self._limits.reconnect_s > 0 and not self.done:
            log.info("call %s: the connection broke", self._start.call_id)
            self._lost = True

    def is_resumed_by(self, start: CallStart, resume_as: str | None) -> bool:
        """Whether this is the call of a connection that broke, and that connection's successor
        says and shows the same."""
        return self._lost and not self.done and (start, resume_as) == (self._start, self._resume_as)

    @contextlib.asynccontextmanager
    async def resume(self, answer: Answer) -> AsyncIterator[None]:
        """Go on over another connection, until it is left."""
        log.info("call %s: resumed", self._start.call_id)
        self._lost, self._resumed, self._answer = False, True, answer
        self._news.set()
        try:
            if self.decision is not None:
                await answer(self.decision)
            yield
            if not self._lost:
                await self.finish()
        finally:
            self._resumed = False
            self._news.set()

    async def wait_for_return(self) -> None:
        """If the connection broke, wait until another has gone on with the call and was left."""
        while self._lost or self._resumed:
            self._news.clear()
            wait_s = None if self._resumed else self._limits.reconnect_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                if not self._resumed:
                    self._lost = False

    def give_up_waiting(self) -> None:
        """Wait for no other connection."""
        self._lost = False
        self._news.set()

    async def finish(self) -> None:
        """There is no more audio: wait for the last decision, for a while."""
        self._buffer.end()
        if self._verifying is None:
            return
        done, _ = await asyncio.wait({self._verifying}, timeout=self._limits.conclude_s)
        if not done:
            log.warning("call %s: the server did not conclude in time", self._start.call_id)
            self._give_up()

    @contextlib.asynccontextmanager
    async def verify(self, client: AsyncClient, claim: Claim) -> AsyncIterator[None]:
        """Stream to the server meanwhile."""
        decisions = client.verify_stream(
            claim.speaker_ids,
            self._buffer,
            raw=self._start.raw,
            channel=self._start.channel,
            policy=claim.policy,
            sequential=SequentialTest(),
            stop_at_decision=True,
            message_s=0.0,  # the buffer has joined the frames
        )
        self._verifying = asyncio.create_task(self._verify(decisions))
        try:
            yield
            await self.finish()
        except GatewayError:  # the platform went wrong, and what it said until then still counts
            await self.finish()
            raise
        finally:
            self._give_up()
            await asyncio.wait({self._verifying})

    async def _verify(self, decisions: AsyncGenerator[Decision, None]) -> None:
        call_id = self._start.call_id
        try:
            async with contextlib.aclosing(decisions):
                async for decision in decisions:
                    self.decision = decision
                    await self._answer(decision)
        except SaysoError as error:
            log.warning("call %s: not verified: %s", call_id, error.message)
        except Exception:
            log.exception("call %s: not verified", call_id)
        else:
            if (made := self.decision) is not None:
                log.info("call %s: %s, decision %s", call_id, made.outcome, made.decision_id)
        finally:
            self._buffer.end()

    def _give_up(self) -> None:
        self._buffer.end()
        if self._verifying is not None:
            self._verifying.cancel()
