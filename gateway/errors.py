"""Why a call is not verified. Both end the platform's connection, never the telephone call.

GatewayError
├── ProtocolError   the platform, or who poses as it, sent what its protocol does not have
└── CallRefused     the call may not be verified: nobody is claimed, or there are too many
"""


class GatewayError(Exception):
    """Root of the tree; the message is one sentence for the operator's log."""


class ProtocolError(GatewayError):
    pass


class CallRefused(GatewayError):
    """`reason` is one word for the metrics."""

    def __init__(self, message: str, reason: str = "invalid") -> None:
        super().__init__(message)
        self.reason = reason
