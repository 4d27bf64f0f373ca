"""Limits: what one tenant may use of this process, so that its flood is not another's outage, and
how often one voice may be compared, so that nobody can collect answers without end.

Each process has buckets of its own: of n processes behind one address a tenant may use n times as
much. Speakers are counted in the store, so all processes share that limit.
"""

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.access import ANYONE, Caller
from service.errors import OverLimit, Overloaded
from service.settings import ComparisonRates, TenantQuota
from service.store import Store

_SHORTEST_WAIT_S = 0.001
_ROUNDING = 1e-9
_CALL_WAIT_S = 1.0
_SPEAKERS_WAIT_S = 3600.0
_MOST_BUCKETS = 100_000


class TokenBucket:
    """A bucket that fills at `rate_per_s` up to `size`.

    The balance may go negative: one long recording is admitted, and the next waits until the debt
    is repaid.
    """

    def __init__(self, rate_per_s: float, size: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._size = size
        self._level = size
        self._at_s = now_s

    def take(self, cost: float, now_s: float, *, needed: float = 0.0) -> float:
        """Take `cost` and return 0 if the bucket is not empty and holds `needed`; otherwise take
        nothing and return how many seconds to wait."""
        earned = (now_s - self._at_s) * self._rate_per_s
        self._level, self._at_s = min(self._size, self._level + earned), now_s
        if self._level <= needed - _ROUNDING or self._level <= 0:
            return max(_SHORTEST_WAIT_S, (needed - self._level) / self._rate_per_s)
        self._level -= cost
        return 0.0


class TenantLimits:
    """The buckets and calls of each tenant in this process; `clock` is monotonic, in seconds.

    At most `calls` are in progress for all tenants together (0 is no limit). The last `reserve` of
    them are for tenants that have few.

    Every method raises `OverLimit`, or `Overloaded` when the server is full, and calls
    `count_refusal` with the name of the limit.
    """

    def __init__(
        self,
        quota: TenantQuota,
        *,
        calls: int = 0,
        reserve: int = 0,
        clock: Callable[[], float] = time.monotonic,
        count_refusal: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self._quota = quota
        self._most_calls = calls
        self._reserve = reserve
        self._clock = clock
        self._count_refusal = count_refusal
        self._calls = Counter[str]()
        self._all_calls = 0
        self._requests = defaultdict[str, TokenBucket](
            lambda: self._new_bucket(quota.requests_per_s)
        )
        self._audio = defaultdict[str, TokenBucket](lambda: self._new_bucket(quota.audio_s_per_s))

    @contextmanager
    def admit_call(self, tenant: str) -> Iterator[None]:
        """Charge a request, and count a call in progress until the context is left."""
        self.charge_request(tenant)
        self._admit(tenant)
        self._calls[tenant] += 1
        self._all_calls += 1
        try:
            yield
        finally:
            self._calls[tenant] -= 1
            self._all_calls -= 1

    def _admit(self, tenant: str) -> None:
        most, calls = self._quota.streams, self._calls[tenant]
        if most and calls >= most:
            message = f"{most} calls of this tenant are in progress; end one first"
            raise self._make_refusal("streams", message, _CALL_WAIT_S)
        if self._most_calls and self._all_calls >= self._most_calls:
            message = f"{self._most_calls} calls are in progress, as many as this server takes"
            self._count_refusal("calls")
            raise Overloaded(message, retry_after_s=_CALL_WAIT_S)
        unreserved = self._most_calls - self._reserve
        few = max(1, self._reserve // 4)
        if self._reserve and self._all_calls >= unreserved and calls >= few:
            message = f"{self._all_calls} calls are in progress, {calls} of them of this tenant; "
            message += "the places that are left are kept for other tenants"
            raise self._make_refusal("reserve", message, _CALL_WAIT_S)

    def charge_request(self, tenant: str) -> None:
        """Charge one request, or one item of a batch."""
        if self._quota.requests_per_s:
            wait_s = self._requests[tenant].take(1.0, self._clock(), needed=1.0)
            self._refuse("requests", wait_s, f"{self._quota.requests_per_s:g} requests")

    def charge_audio(self, tenant: str, audio_s: float) -> None:
        """Charge decoded audio; with 0 seconds, check whether any would be admitted now."""
        if self._quota.audio_s_per_s:
            wait_s = self._audio[tenant].take(audio_s, self._clock())
            self._refuse("audio", wait_s, f"{self._quota.audio_s_per_s:g} seconds of audio")

    async def check_enrollment(self, store: Store, tenant: str, speaker_id: str) -> None:
        """Check whether a speaker who may be new has room. Enrollments at the same moment are not
        counted yet, so that a few more may get in."""
        most = self._quota.speakers
        if not most or await store.count(tenant) < most:
            return
        if await store.get(tenant, speaker_id) is None:
            message = f"this tenant has its {most} speakers; delete one, or ask for a higher limit"
            raise self._make_refusal("speakers", message, _SPEAKERS_WAIT_S)

    def _new_bucket(self, rate_per_s: float) -> TokenBucket:
        size = max(1.0, rate_per_s * self._quota.burst_s)
        return TokenBucket(rate_per_s, size, self._clock())

    def _refuse(self, limit: str, wait_s: float, what: str) -> None:
        if wait_s:
            message = f"this tenant uses more than {what} per second; slow down"
            raise self._make_refusal(limit, message, wait_s)

    def _make_refusal(self, limit: str, message: str, retry_after_s: float) -> OverLimit:
        self._count_refusal(limit)
        return OverLimit(message, retry_after_s=retry_after_s)


class ComparisonBudgets:
    """How many more windows this process compares with a speaker, and for a credential; `clock` is
    monotonic, in seconds.

    A server that asks for no credential has no budgets. Beyond a number of buckets that only a
    flood reaches, the least recently used are forgotten.
    """

    def __init__(
        self,
        rates: ComparisonRates,
        *,
        clock: Callable[[], float] = time.monotonic,
        count_refusal: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._count_refusal = count_refusal
        self._buckets = OrderedDict[tuple[str, str], TokenBucket]()

    def spend(self, caller: Caller, speaker_id: str, windows: int) -> None:
        """Charge windows that are compared with a speaker, or with none in particular if
        `speaker_id` is empty; with 0, check whether any would be. Raises `OverLimit`."""
        if caller is ANYONE:
            return
        who, rate = f"{caller.credential} compares", self._rates.per_credential
        self._take((caller.tenant, caller.credential), rate, windows, who)
        if speaker_id:
            who, rate = "this speaker is compared with", self._rates.per_speaker
            self._take((caller.tenant, f"speaker:{speaker_id}"), rate, windows, who)

    def _take(self, key: tuple[str, str], rate: float, windows: int, who: str) -> None:
        if not rate:
            return
        now_s = self._clock()
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(rate, max(1.0, rate * self._rates.burst_s), now_s)
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if wait_s := bucket.take(windows, now_s):
            self._count_refusal("comparisons")
            raise OverLimit(
                f"{who} more than {rate:g} windows of speech per second; slow down",
                retry_after_s=wait_s,
            )
