"""`sayso gateway`: call platforms plug in without code.

    platform ── its own protocol ──> connector ── CallStart, audio ──> LiveCall ── client ──> server
        <── answers in its own way ── connector <─── Decision ────────────┘

A connector knows one platform's protocol and nothing of Sayso; `calls` knows nothing of platforms.
What a platform's media says of a call may claim a speaker. It never chooses the tenant, which is
that of the credential, nor the policy, which is the gateway's own or that of an announced call.

settings.py      SAYSO_GATEWAY_*
metrics.py       what Prometheus reads
calls.py         a call's audio to the server, its decisions back
clients.py       one client of the server for each credential
buffer.py        audio on its way, bounded
answers.py       a decision as JSON
secret_file.py   files of tokens and keys
sockets.py       the WebSocket of a platform: silence, size and slow readers limited
connectors/      one module for each protocol
routes.py        who may connect as which platform
shims/           the HTTP interfaces of services that have ended
rest/            the API as JSON over HTTP, with the caller's own credential
console/         a page for people: static files over that
web.py           the HTTP and WebSocket listener
webhooks/        the tenant's events, posted to endpoints
server.py        all listeners as one running gateway, drained on the way down
"""
