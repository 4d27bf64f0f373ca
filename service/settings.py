"""Settings: `SAYSO_*` environment variables, read once by `service.__main__`, then passed down."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError

DEFAULT_FALSE_MATCH_RATE = 0.01
"""Where neither the request, nor the operator, nor the model's contract names one."""

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "models" / "sayso.onnx"


class Settings(BaseSettings):
    """Everything an operator can choose; each field is `SAYSO_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="SAYSO_", frozen=True, extra="forbid")

    listen: str = Field("127.0.0.1:50051", description="host:port to serve on; port 0 picks one")
    model: Path = Field(SHIPPED_MODEL, description="the contract model file (.onnx)")
    previous_model: Path | None = Field(
        None, description="the model before it, whose voiceprints count until callers have moved"
    )
    store: str = Field("sqlite:///sayso.db", description="sqlite:///file or redis://host:port/db")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where inference runs")
    threads: int = Field(0, ge=0, le=256, description="inference threads; 0 uses every core")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")

    max_audio_s: float = Field(300.0, gt=0, description="seconds of audio in one request or stream")
    max_call_s: float = Field(3600.0, gt=0, description="seconds of audio in one verified call")
    max_audio_bytes: int = Field(16 * 2**20, gt=0, description="bytes of audio in one request")
    batch_items: int = Field(
        4, ge=1, le=256, description="recordings of one batch enrolment in work at once"
    )
    max_batch: int = Field(16, ge=1, le=1024, description="windows in one inference batch")
    max_queue: int = Field(1024, ge=1, description="windows waiting before requests are refused")
    max_batch_delay_s: float = Field(0.0, ge=0, le=1, description="seconds a batch may gather")
    max_streams: int = Field(1000, ge=1, description="calls in progress before they are refused")
    speech_threads: int = Field(
        2, ge=1, le=64, description="threads for decoding and voice activity"
    )

    target_false_match_rate: float | None = Field(
        None, gt=0, lt=1, description="default threshold of requests; unset: the model's own"
    )
    min_verify_speech_s: float = Field(1.0, ge=0, le=60, description="net speech for a decision")
    min_enroll_speech_s: float = Field(5.0, ge=0, le=300, description="net speech for an enrolment")
    min_snr_db: float = Field(0.0, description="signal-to-noise ratio for a decision, decibels")
    max_clipping: float = Field(0.1, ge=0, le=1, description="share of clipped speech samples")
    max_vectors: int = Field(50, ge=1, le=1000, description="vectors kept in one voiceprint")

    require_consent: bool = Field(False, description="refuse enrolments without a consent")
    confirm_enrollments: bool = Field(
        False, description="an operator confirms each voice before its first use"
    )
    expire_after_days: float = Field(
        1095.0, ge=0, description="days unused after which a voice is erased; 0: never"
    )
    enroll_match_llr: float = Field(
        -3.0, description="log-likelihood ratio of new speech to the voice enrolled so far"
    )
    enroll_coherence_llr: float = Field(
        0.0, description="log-likelihood ratio between two windows of one recording, on average"
    )
    duplicates: Literal["allow", "flag", "refuse"] = Field(
        "allow", description="enrolling a voice that is already enrolled under another id"
    )
    duplicate_alarm_rate: float = Field(
        0.01, gt=0, lt=1, description="share of new voices taken for a duplicate"
    )
    duplicate_limit: int = Field(
        10_000, ge=1, description="speakers searched for a duplicate; more are an error"
    )
    adapt: bool = Field(False, description="add the speech of confident accepts to the voice")
    adapt_margin_llr: float = Field(
        3.0, ge=0, description="log-likelihood ratio above the threshold for adaptation"
    )
    adapt_min_speech_s: float = Field(5.0, ge=0, description="net speech for adaptation")

    move_margin_llr: float = Field(
        3.0, ge=0, description="log-likelihood ratio above the threshold to move to the model"
    )
    move_min_speech_s: float = Field(
        3.0, ge=0, description="net speech of a call that moves to the model"
    )

    sequential_false_match_rate: float = Field(
        0.01, gt=0, lt=0.5, description="of a sequential test, where the request names none"
    )
    sequential_false_non_match_rate: float = Field(
        0.01, gt=0, lt=0.5, description="of a sequential test, where the request names none"
    )
    sequential_max_speech_s: float = Field(
        10.0, gt=0, description="net speech at which a sequential test decides all the same"
    )

    drain_s: float = Field(10.0, ge=0, description="seconds in-flight calls may take at shutdown")

    @classmethod
    def read(cls, **overrides: object) -> Self:
        """Environment, then overrides that are not None; `SettingsError` names the variable."""
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = (
                f"SAYSO_{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
            raise SettingsError("; ".join(problems)) from error
