"""What a server is and can do (`ServerService`)."""

from sayso.calls import Call
from sayso.v1 import server_pb2
from sayso.v1.server_pb2_grpc import ServerServiceStub
from sayso.values import CalibratedRange, ModelInfo, ServerInfo


def get_server_info() -> Call[ServerInfo]:
    """The server's version, models, limits and features."""
    request = server_pb2.GetServerInfoRequest()
    return Call(ServerServiceStub, "GetServerInfo", request, _server_info)


def _server_info(response: server_pb2.GetServerInfoResponse) -> ServerInfo:
    limits = response.limits
    return ServerInfo(
        version=response.version,
        models=tuple(map(_model, response.models)),
        max_recording_s=limits.max_recording_s,
        max_call_s=limits.max_call_s,
        enrollment_net_speech_s=limits.enrollment_net_speech_s,
        features=tuple(response.features),
        policies=tuple(policy.name for policy in response.policies),
        max_message_bytes=limits.max_message_bytes,
        max_chunk_bytes=limits.max_chunk_bytes,
    )


def _model(model: server_pb2.ModelInfo) -> ModelInfo:
    rates = model.calibrated_false_match_rates
    calibrated = model.HasField("calibrated_false_match_rates")
    return ModelInfo(
        model_id=model.model_id,
        dimension=model.dimension,
        sample_rate=model.sample_rate_hertz,
        window_s=model.window_s,
        min_net_speech_s=model.min_net_speech_s,
        calibrated_range=CalibratedRange(rates.lowest, rates.highest) if calibrated else None,
    )
