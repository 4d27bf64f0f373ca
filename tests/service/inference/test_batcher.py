import asyncio
import random
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import Overloaded, Unavailable
from service.inference.batcher import Batcher, BatchReport

Item = tuple[str, int]  # key, number


def answer(item: Item) -> str:
    return f"answer to {item}"


def key_of(item: Item) -> str:
    return item[0]


class Gate:
    """A `run` that records its batches and holds them while it is closed."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.threads: set[int] = set()
        self.entered = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def __call__(self, items: Sequence[Item]) -> list[str]:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        self.entered.set()
        if not self._open.wait(10):
            raise TimeoutError
        return [answer(item) for item in items]


class Clock:
    """The event loop's time, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
    return clock


async def ticks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def occupy(batcher: Batcher[Item, str], gate: Gate) -> asyncio.Task[str]:
    """Keep the only worker busy until the gate opens, and forget its batch."""
    gate.close()
    task = asyncio.create_task(batcher.submit(("blocker", 0)))
    assert await asyncio.to_thread(gate.entered.wait, 10)
    gate.batches.clear()
    return task


def later(batcher: Batcher[Item, str], items: Sequence[Item]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(batcher.submit(item)) for item in items]


def build(gate: Callable[[Sequence[Item]], Sequence[str]], **options: object) -> Batcher[Item, str]:
    settings: dict[str, object] = {"key": key_of, "max_batch": 8, "queue_limit": 1000, **options}
    return Batcher(gate, **settings)  # type: ignore[arg-type]


# --- each its own result -------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), max_batch=st.integers(1, 9), workers=st.integers(1, 3))
def test_random_cancellation_never_hands_out_another_callers_result(
    seed: int, max_batch: int, workers: int
) -> None:
    chance = random.Random(seed)

    def run(items: Sequence[Item]) -> list[str]:
        assert len(items) <= max_batch
        assert len({key_of(item) for item in items}) == 1
        threading.Event().wait(chance.uniform(0, 5e-4))
        return [answer(item) for item in items]

    async def call(batcher: Batcher[Item, str], items: list[Item]) -> None:
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        owner = chance.choice("xyz")
        assert await batcher.submit_all(items, owner=owner) == [answer(item) for item in items]

    async def scenario() -> None:
        async with build(run, max_batch=max_batch, workers=workers) as batcher:
            groups = [
                [(chance.choice("ab"), 10 * n + i) for i in range(chance.randint(1, 4))]
                for n in range(80)
            ]
            tasks = [asyncio.create_task(call(batcher, items)) for items in groups]
            victims = set(chance.sample(tasks, 40))
            for task in victims:
                await asyncio.sleep(0 if chance.random() < 0.8 else 1e-3)
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert batcher.queue_depth == 0
        for task, outcome in zip(tasks, outcomes, strict=True):
            cancelled = isinstance(outcome, asyncio.CancelledError) and task in victims
            assert outcome is None or cancelled, outcome

    asyncio.run(asyncio.wait_for(scenario(), 60))


async def test_results_come_back_in_the_order_of_the_items(gate: Gate) -> None:
    items = [(key, number) for number in range(7) for key in "ab"]
    async with build(gate, max_batch=3) as batcher:
        assert await batcher.submit_all(items) == [answer(item) for item in items]
        assert await batcher.submit_all([]) == []


async def test_cancelled_items_are_dropped_before_inference(gate: Gate) -> None:
    async with build(gate) as batcher:
        blocker = await occupy(batcher, gate)
        tasks = later(batcher, [("a", 1), ("a", 2), ("a", 3)])
        await ticks()
        tasks[1].cancel()
        gate.open()
        assert await tasks[0] == answer(("a", 1))
        assert await tasks[2] == answer(("a", 3))
        await blocker
    assert gate.batches == [[("a", 1), ("a", 3)]]


async def test_cancellation_during_inference_leaves_the_neighbours_alone(gate: Gate) -> None:
    async with build(gate) as batcher:
        gate.close()
        tasks = later(batcher, [("a", 1), ("a", 2), ("a", 3)])
        await ticks()
        assert await asyncio.to_thread(gate.entered.wait, 10)
        tasks[0].cancel()
        await ticks()
        gate.open()
        assert await asyncio.gather(*tasks[1:]) == [answer(("a", 2)), answer(("a", 3))]
    assert gate.batches == [[("a", 1), ("a", 2), ("a", 3)]]


# --- batches -------------------------------------------------------------------------------------


def naive_batches(items: list[Item], max_batch: int) -> list[list[Item]]:
    batches = []
    while items:
        batch = [item for item in items if key_of(item) == key_of(items[0])][:max_batch]
        items = [item for item in items if item not in batch]
        batches.append(batch)
    return batches


@settings(max_examples=40, deadline=None)
@given(keys=st.text("abc", min_size=1, max_size=30), max_batch=st.integers(1, 5))
def test_waiting_items_leave_by_oldest_item_and_key(keys: str, max_batch: int) -> None:
    gate = Gate()
    items = [(key, number) for number, key in enumerate(keys)]

    async def scenario() -> None:
        async with build(gate, max_batch=max_batch) as batcher:
            await occupy(batcher, gate)
            tasks = later(batcher, items)
            await ticks()
            gate.open()
            await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert gate.batches == naive_batches(items, max_batch)


async def test_a_busy_key_does_not_starve_another(gate: Gate) -> None:
    async with build(gate, max_batch=2) as batcher:
        await occupy(batcher, gate)
        later(batcher, [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("a", 4)])
        await ticks()
        gate.open()
    assert gate.batches == [[("a", 1), ("a", 2)], [("b", 1)], [("a", 3), ("a", 4)]]


async def test_an_idle_worker_takes_what_is_ready_at_once(gate: Gate, clock: Clock) -> None:
    async with build(gate) as batcher:
        await asyncio.gather(*later(batcher, [("a", 1), ("a", 2), ("a", 3)]))
        await batcher.submit(("a", 4))
    assert gate.batches == [[("a", 1), ("a", 2), ("a", 3)], [("a", 4)]]
    assert clock.now_s == 0


async def test_workers_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=10)

    def run(items: Sequence[Item]) -> list[str]:
        meeting.wait()
        return [answer(item) for item in items]

    async with build(run, workers=2) as batcher:
        await batcher.submit_all([("a", 1), ("b", 1)])


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (2, [1, 1]), (5, [1, 2, 2]), (20, [6, 7, 7]), (30, [8, 8, 8, 6])]
)
async def test_idle_workers_share_what_waits(gate: Gate, count: int, sizes: list[int]) -> None:
    async with build(gate, workers=3) as batcher:
        items = [("a", number) for number in range(count)]
        assert await batcher.submit_all(items) == [answer(item) for item in items]
    assert sorted(map(len, gate.batches)) == sorted(sizes)


# --- owners --------------------------------------------------------------------------------------


def owned(
    batcher: Batcher[Item, str], owner: str, groups: Sequence[Sequence[Item]]
) -> list[asyncio.Task[list[str]]]:
    return [asyncio.create_task(batcher.submit_all(each, owner=owner)) for each in groups]


@pytest.mark.parametrize("max_batch", [1, 2, 8])
async def test_an_owner_of_much_makes_no_other_wait(gate: Gate, max_batch: int) -> None:
    """24 long requests wait, and a batch of them is ahead; what another asks for is served after
    one more of them at the most."""
    async with build(gate, max_batch=max_batch) as batcher:
        await occupy(batcher, gate)
        owned(batcher, "much", [[("a", 10 * n + i) for i in range(8)] for n in range(24)])
        await ticks()
        [calm] = owned(batcher, "calm", [[("a", 1000)]])
        await ticks()
        gate.open()
        assert await calm == [answer(("a", 1000))]
    assert any(("a", 1000) in batch for batch in gate.batches[:3])


async def test_owners_take_turns(gate: Gate) -> None:
    async with build(gate, max_batch=1) as batcher:
        await occupy(batcher, gate)
        for owner, key, count in (("x", "a", 4), ("y", "b", 2), ("z", "c", 3)):
            owned(batcher, owner, [[(key, number)] for number in range(count)])
        await ticks()
        gate.open()
    keys = "".join(key for [(key, _)] in gate.batches)
    assert keys == "abcabcaca"
    for key in "abc":
        numbers = [number for [(each, number)] in gate.batches if each == key]
        assert numbers == sorted(numbers), "those of one owner leave in order of arrival"


async def test_the_delay_runs_from_the_oldest_item_of_any_owner(gate: Gate, clock: Clock) -> None:
    async with build(gate, max_delay_s=1.0) as batcher:
        tasks = []
        for number, owner in enumerate("xyx"):
            tasks += owned(batcher, owner, [[("a", number)]])
            await ticks()
            clock.now_s += 0.3
        clock.now_s = 1.0
        await ticks()
        assert batcher.queue_depth == 0
        await asyncio.gather(*tasks)
    assert [len(batch) for batch in gate.batches] == [3]


async def test_an_owner_who_fills_the_queue_leaves_others_their_share(gate: Gate) -> None:
    async with build(gate, queue_limit=12, max_batch=100) as batcher:
        await occupy(batcher, gate)
        owned(batcher, "much", [[("a", number)] for number in range(12)])
        await ticks()
        for owner, share in (("calm", 6), ("other", 4)):
            owned(batcher, owner, [[("a", number)] for number in range(share)])
            await ticks()
            for refused in ("much", owner):
                with pytest.raises(Overloaded):
                    await batcher.submit(("a", 100), owner=refused)
        assert batcher.queue_depth == 12 + 6 + 4
        gate.open()


# --- ahead ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [[("a", 1), ("a", 2)], [("c", 1)]])
async def test_the_oldest_batch_is_ahead_of_a_busy_worker(gate: Gate, ahead: list[Item]) -> None:
    behind = [("a", 3), ("b", 1), ("b", 2)]
    async with build(gate, max_batch=2) as batcher:
        await occupy(batcher, gate)
        later(batcher, [*ahead, *behind])
        await ticks()
        assert batcher.queue_depth == len(ahead + behind)
        gate.open()
        while len(gate.batches) < 1:  # the event loop stands still
            threading.Event().wait(1e-3)
        assert gate.batches == [ahead]
    assert gate.batches == [ahead, [("a", 3)], [("b", 1), ("b", 2)]]


async def test_less_than_a_batch_gathers(gate: Gate) -> None:
    async with build(gate, max_batch=3) as batcher:
        await occupy(batcher, gate)
        for number in range(3):
            later(batcher, [("a", number)])
            await ticks()
        gate.open()
    assert gate.batches == [[("a", 0), ("a", 1), ("a", 2)]]


async def test_what_is_cancelled_ahead_is_not_run(gate: Gate) -> None:
    reports: list[BatchReport] = []
    async with build(gate, max_batch=2, observe=reports.append) as batcher:
        await occupy(batcher, gate)
        abandoned = later(batcher, [("a", 1), ("a", 2)])
        await ticks()
        half = later(batcher, [("a", 3), ("a", 4)])
        await ticks()
        for task in (*abandoned, half[0]):
            task.cancel()
        gate.open()
        assert await half[1] == answer(("a", 4))
    assert gate.batches == [[("a", 4)]]
    assert [report.size for report in reports] == [1, 1]


async def test_inference_runs_off_the_event_loop(gate: Gate) -> None:
    async with build(gate) as batcher:
        await batcher.submit(("a", 1))
    assert gate.threads.isdisjoint({threading.get_ident()})


# --- delay ---------------------------------------------------------------------------------------


async def test_the_delay_runs_from_the_oldest_item(gate: Gate, clock: Clock) -> None:
    async with build(gate, max_delay_s=1.0) as batcher:
        tasks = []
        for number in range(4):
            tasks += later(batcher, [("a", number)])
            await ticks()
            assert batcher.queue_depth == number + 1
            clock.now_s += 0.3
        await ticks()
        assert batcher.queue_depth == 0
        await asyncio.gather(*tasks)
    assert [len(batch) for batch in gate.batches] == [4]


async def test_a_full_batch_does_not_wait(gate: Gate, clock: Clock) -> None:
    async with build(gate, max_delay_s=1.0, max_batch=2) as batcher:
        tasks = later(batcher, [("b", 0), ("a", 1), ("a", 2)])
        await ticks()
        assert batcher.queue_depth == 1
        assert await asyncio.gather(*tasks[1:]) == [answer(("a", 1)), answer(("a", 2))]
        clock.now_s = 1.0
        await ticks()
        assert await tasks[0] == answer(("b", 0))


async def test_after_its_oldest_item_left_a_key_waits_anew(gate: Gate, clock: Clock) -> None:
    async with build(gate, max_delay_s=1.0) as batcher:
        [oldest] = later(batcher, [("a", 0)])
        await ticks()
        clock.now_s = 0.9
        [newer] = later(batcher, [("a", 1)])
        await ticks()
        oldest.cancel()
        clock.now_s = 1.0
        await ticks()
        assert batcher.queue_depth == 1
        clock.now_s = 1.9
        await ticks()
        assert await newer == answer(("a", 1))


# --- limits --------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_all_or_nothing(gate: Gate) -> None:
    async with build(gate, queue_limit=3) as batcher:
        await occupy(batcher, gate)
        tasks = [asyncio.create_task(batcher.submit_all([("a", 1), ("a", 2)]))]
        await ticks()
        with pytest.raises(Overloaded) as refusal:
            await batcher.submit_all([("a", 3), ("a", 4)])
        assert (refusal.value.retry_after_s or 0) > 0
        assert batcher.queue_depth == 2
        later(batcher, [("a", 5)])
        await ticks()
        with pytest.raises(Overloaded):
            await batcher.submit(("a", 6))
        tasks[0].cancel()
        await ticks()
        [last] = later(batcher, [("a", 7)])
        await ticks()
        gate.open()
        await last
    assert gate.batches == [[("a", 5), ("a", 7)]]


async def test_the_retry_estimate_follows_the_recent_rate(gate: Gate, clock: Clock) -> None:
    item_s = 2.0

    def run(items: Sequence[Item]) -> list[str]:
        clock.now_s += item_s * len(items)
        return gate(items)

    async with build(run, queue_limit=3, max_batch=2) as batcher:
        for number in range(30):
            await batcher.submit(("a", number))
        gate.close()
        waiting = later(batcher, [("a", 1), ("b", 1), ("c", 1), ("d", 1)])
        await ticks()
        assert isinstance(waiting.pop().exception(), Overloaded)
        with pytest.raises(Overloaded) as refusal:
            await batcher.submit_all([("a", 2), ("a", 3)])
        gate.open()
        await asyncio.gather(*waiting)
    assert refusal.value.retry_after_s == pytest.approx(2 * item_s, rel=0.01)


async def test_more_items_than_the_queue_ever_holds_are_a_mistake(gate: Gate) -> None:
    async with build(gate, queue_limit=2) as batcher:
        with pytest.raises(ValueError, match="never fit"):
            await batcher.submit_all([("a", 1), ("a", 2), ("a", 3)])


@pytest.mark.parametrize("name", ["max_batch", "queue_limit", "workers"])
def test_limits_start_at_one(gate: Gate, name: str) -> None:
    with pytest.raises(ValueError, match="start at 1"):
        build(gate, **{name: 0})


# --- failure -------------------------------------------------------------------------------------


async def test_a_failing_batch_fails_only_its_own_items(gate: Gate) -> None:
    def run(items: Sequence[Item]) -> list[str]:
        if ("bad", 0) in items:
            raise ArithmeticError("bad batch")
        return gate(items)

    async with build(run) as batcher:
        tasks = later(batcher, [("good", 1), ("bad", 0), ("bad", 1), ("good", 2)])
        first, *failed, last = await asyncio.gather(*tasks, return_exceptions=True)
        assert (first, last) == (answer(("good", 1)), answer(("good", 2)))
        assert all(isinstance(outcome, ArithmeticError) for outcome in failed)
        assert [str(outcome) for outcome in failed] == ["bad batch"] * 2
        assert failed[0] is not failed[1], "one exception for two callers holds the frames of both"
        assert await batcher.submit(("bad", 1)) == answer(("bad", 1))


@pytest.mark.parametrize("surplus", [-1, 1])
async def test_a_wrong_count_of_results_fails_the_whole_batch(gate: Gate, surplus: int) -> None:
    def run(items: Sequence[Item]) -> list[str]:
        results = gate(items)
        return results if len(items) == 1 else [*results, "stray"][: len(items) + surplus]

    async with build(run) as batcher:
        tasks = later(batcher, [("a", 1), ("a", 2), ("a", 3)])
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert all(isinstance(outcome, ValueError) for outcome in outcomes)
        assert await batcher.submit(("a", 4)) == answer(("a", 4))


async def test_siblings_of_a_failed_item_are_withdrawn(gate: Gate) -> None:
    def run(items: Sequence[Item]) -> list[str]:
        results = gate(items)
        if key_of(items[0]) == "bad":
            raise ArithmeticError
        return results

    async with build(run) as batcher:
        gate.close()
        doomed = asyncio.create_task(batcher.submit_all([("bad", 0), ("a", 1), ("b", 2)]))
        await ticks()
        assert batcher.queue_depth == 2
        gate.open()
        with pytest.raises(ArithmeticError):
            await doomed
        assert batcher.queue_depth == 0
    assert ("b", 2) not in [item for batch in gate.batches for item in batch]


# --- start and stop ------------------------------------------------------------------------------


async def test_leaving_finishes_what_is_queued(gate: Gate, clock: Clock) -> None:
    async with build(gate, max_batch=2, max_delay_s=60.0) as batcher:
        tasks = later(batcher, [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)])
        await ticks()
    await ticks()
    assert all(task.done() for task in tasks)
    assert await tasks[-1] == answer(("a", 5))
    assert sorted(map(len, gate.batches)) == [1, 1, 2, 2]
    with pytest.raises(Unavailable):
        await batcher.submit(("a", 6))


async def test_nothing_is_accepted_before_the_start_or_during_the_drain(gate: Gate) -> None:
    batcher = build(gate)
    with pytest.raises(Unavailable):
        await batcher.submit(("a", 1))
    async with batcher:
        await occupy(batcher, gate)
        leaving = asyncio.create_task(batcher.__aexit__())
        await ticks()
        with pytest.raises(Unavailable):
            await batcher.submit(("a", 2))
        gate.open()
        await leaving


async def test_a_cancelled_drain_leaves_nobody_waiting(gate: Gate) -> None:
    batcher = await build(gate).__aenter__()
    blocker = await occupy(batcher, gate)
    [waiting] = later(batcher, [("a", 1)])
    await ticks()
    leaving = asyncio.create_task(batcher.__aexit__())
    await ticks()
    leaving.cancel()
    await ticks()
    assert leaving.cancelled()
    assert waiting.cancelled()
    gate.open()
    assert await blocker == answer(("blocker", 0))


async def test_batches_are_reported(gate: Gate, clock: Clock) -> None:
    reports: list[BatchReport] = []

    def run(items: Sequence[Item]) -> list[str]:
        clock.now_s += 5
        return gate(items)

    async with build(run, max_delay_s=1.0, observe=reports.append) as batcher:
        tasks = later(batcher, [("a", 1), ("a", 2)])
        await ticks()
        clock.now_s = 1.0
        await ticks()
        await asyncio.gather(*tasks)
    assert reports == [BatchReport(size=2, waited_s=1.0, ran_s=5.0)]
