"""Webhooks: the tenant's events, posted to endpoints until each has taken them.

server ── WatchEvents ──> follower ─> body ─> outbox (SQLite: resume token, deliveries)
                                                │ due           ▲ done, again later, or failed
                                                └─> deliverer ──┘── POST, signed ──> endpoint

An event and the token after it are written in one transaction, and a delivery is removed only
after its endpoint said 2xx. So a gateway that is killed loses none, and may send one twice.

endpoints.py   the TOML file of endpoints
signatures.py  Standard Webhooks: secrets, headers
body.py        an event as a CloudEvent
schedule.py    when to try again
addresses.py   where a webhook may not go
sender.py      one POST
outbox.py      the SQLite file
follower.py    events from the server to the outbox
deliverer.py   from the outbox to one endpoint
running.py     all of it beside a gateway
"""
