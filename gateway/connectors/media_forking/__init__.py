"""Media forks over gRPC: Webex Contact Center and Five9 call us, each with a service of its own.

    rpc ──> credential ──> first message: which call, which side ──> caller's audio ──> call
     └─ UNAUTHENTICATED                  └─ no call: FAILED_PRECONDITION

webex.proto, five9.proto   what is read of their messages; the stubs are made by `make protos`
rpcs.py                    one rpc: who may call, silence and size limited, errors as statuses
webex_tokens.py            who signed the token of a Webex data source
webex.py                   both sides of a call in one stream
five9.py                   a stream for each side
listener.py                the port of both, and its health

Their messages name no caller, so only announced calls are taken, and have no place for a decision:
it leaves as an event.
"""
