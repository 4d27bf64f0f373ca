"""Server and gateway are killed again and again: whatever was answered reaches the endpoint."""

import itertools
import json
import random
import time
from pathlib import Path

from benchmarks.figures import below
from gateway.webhooks.outbox import open_outbox
from tests.reliability.results import Seen
from tests.reliability.serving import server, wait_until
from tests.reliability.test_events import calling
from tests.support.gateway_process import GatewayProcess
from tests.support.webhook_receiver import Receiver, receive, write_webhooks

SECTION = "events"
_LONGEST_S = 0.6  # of calls before a kill


def list_calls(receiver: Receiver) -> list[str]:
    """The request ids of the calls that the endpoint was told the end of."""
    return [json.loads(each.body)["data"]["requestId"] for each in receiver.taken]


def follow(state: Path) -> None:
    """Wait until the gateway keeps a token: what is answered from now on is owed."""
    with open_outbox(state) as outbox:
        wait_until(lambda: outbox.get_token() is not None, "followed events")


def test_killed_servers_and_gateways(
    store: str, kind: str, tmp_path: Path, long: bool, seen: Seen
) -> None:
    rounds, chance = 100 if long else 3, random.Random(20)
    numbers, answered = itertools.count(), list[str]()
    running = server(store, events_kept=100_000)
    state = tmp_path / "state.db"
    with receive() as receiver:
        file = write_webhooks(tmp_path, receiver.url, more='events = ["call.ended"]')
        for number in range(rounds):
            running.start()
            gateway = GatewayProcess(running.address, webhooks=file, state=state)
            gateway.__enter__()
            if number == 0:
                follow(state)
            before = len(answered)
            with calling(running.address, numbers, answered):
                wait_until(lambda: len(answered) > before, "answered a call")  # noqa: B023
                time.sleep(chance.uniform(0.0, _LONGEST_S))
                for kill in chance.sample([running.kill, gateway.kill], 2):
                    kill()
                    time.sleep(chance.uniform(0.0, _LONGEST_S / 2))
        running.start()
        with GatewayProcess(running.address, webhooks=file, state=state):
            wait_until(lambda: set(answered) <= set(list_calls(receiver)), "sent every call")
        running.terminate()
    sent = list_calls(receiver)
    unsent = len(set(answered) - set(sent))
    how = f"{len(answered)} calls in {rounds} lives of a server and a gateway that ended in SIGKILL"
    seen.tell(SECTION, f"answered_on_{kind}_not_posted", [unsent], "calls", how, below(0))
    seen.tell(SECTION, f"posted_twice_on_{kind}", [len(sent) - len(set(sent))], "calls", how)
