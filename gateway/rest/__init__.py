"""REST under /v1, from the google.api.http annotations of the protos, for whoever speaks no gRPC.

request ─> bindings: which rpc, by verb and path ─> messages: path, query and body as its message
        ─> transcoder: the rpc, with the caller's own credential ─> JSON
        ─> statuses: google.rpc.Status as JSON, with the HTTP code of its gRPC code

GET /v1/events:watch   events: a stream, which no annotation describes, as server-sent events
GET /openapi.yaml      what all of this takes and answers

The gateway's own credential is never shown for such a request: who shows none has none.
"""

from gateway.rest.transcoder import Rest, open_rest

__all__ = ["Rest", "open_rest"]
