"""Statuses: an error as google.rpc.Status, with its content in a form for programs.

ErrorInfo   the reason, within the domain `sayso`
BadRequest  the field that is wrong
RetryInfo   how long to wait
"""

from google.protobuf import duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from service.errors import ERROR_DOMAIN, InvalidArgument, SaysoError


def build_status(error: SaysoError) -> status_pb2.Status:
    """Build the status of an error, for a call or for an item of a batch."""
    status = status_pb2.Status(code=error.code.value[0], message=error.status_message)
    for detail in build_details(error):
        status.details.add().Pack(detail)
    return status


def build_details(error: SaysoError) -> list[message.Message]:
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)
    ]
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


INTERNAL_STATUS = build_status(SaysoError("internal error; see the server's log"))
