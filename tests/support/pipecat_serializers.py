"""Pipecat's serializers, a second reading of the platforms' protocols; None where it is missing."""

import json
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports modules that Python will drop
    try:
        from loguru import logger

        logger.remove()
        from pipecat.serializers.exotel import ExotelFrameSerializer
        from pipecat.serializers.plivo import PlivoFrameSerializer
        from pipecat.serializers.telnyx import TelnyxFrameSerializer
        from pipecat.serializers.twilio import TwilioFrameSerializer

        AVAILABLE = True
    except ImportError:
        AVAILABLE = False

RATE = 8000


def make_serializer(vendor: str) -> Any:
    kinds: dict[str, Any] = {
        "twilio": lambda: TwilioFrameSerializer("MZ1", params=_no_hang_up(TwilioFrameSerializer)),
        "telnyx": lambda: TelnyxFrameSerializer(
            "stream", "PCMU", "PCMU", params=_no_hang_up(TelnyxFrameSerializer)
        ),
        "plivo": lambda: PlivoFrameSerializer("stream", params=_no_hang_up(PlivoFrameSerializer)),
        "exotel": lambda: ExotelFrameSerializer("stream"),
    }
    serializer = kinds[vendor]()
    serializer._sample_rate = RATE
    return serializer


async def read_samples(serializer: Any, message: dict[str, Any]) -> NDArray[np.int16]:
    """The samples of a media message as pipecat hears them."""
    frame = await serializer.deserialize(json.dumps(message))
    return np.frombuffer(frame.audio, "<i2")


def _no_hang_up(kind: Any) -> Any:
    return kind.InputParams(auto_hang_up=False)
