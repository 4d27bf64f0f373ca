"""`ServerService`: what this server is and can do."""

from collections.abc import Sequence
from importlib.metadata import version

from sayso.v1 import server_pb2 as pb
from sayso.v1 import server_pb2_grpc

from service.contract import Contract
from service.decisions.named_policies import NamedPolicies
from service.rpc.reading import MAX_MESSAGE_BYTES
from service.rpc.requests import MAX_CHUNK_BYTES, AudioLimits, Context


class ServerRpc(server_pb2_grpc.ServerServiceServicer):
    """Answers what does not change while the server runs; `features` name what is switched on."""

    def __init__(
        self,
        contracts: Sequence[Contract],
        limits: AudioLimits,
        *,
        min_enroll_speech_s: float,
        features: Sequence[str],
        policies: NamedPolicies,
    ) -> None:
        self._info = pb.GetServerInfoResponse(
            version=version("sayso"),
            models=map(_build_model, contracts),
            limits=pb.Limits(
                max_message_bytes=MAX_MESSAGE_BYTES,
                max_chunk_bytes=MAX_CHUNK_BYTES,
                max_recording_s=limits.max_s,
                max_call_s=limits.max_call_s,
                enrollment_net_speech_s=min_enroll_speech_s,
            ),
            features=features,
            policies=[
                pb.PolicyInfo(name=policy.name, description=policy.description)
                for policy in policies
            ],
        )

    async def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: Context
    ) -> pb.GetServerInfoResponse:
        return self._info


def _build_model(contract: Contract) -> pb.ModelInfo:
    model = pb.ModelInfo(
        model_id=contract.model_id,
        dimension=contract.dimension,
        sample_rate_hertz=contract.sample_rate,
        window_s=contract.window_s,
        min_net_speech_s=contract.min_speech_s,
    )
    if contract.calibration is not None and contract.calibration.false_match:
        rates = [rate for rate, _ in contract.calibration.false_match]
        model.calibrated_false_match_rates.CopyFrom(
            pb.CalibratedRange(lowest=min(rates), highest=max(rates))
        )
    return model
