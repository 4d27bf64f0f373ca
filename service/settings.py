"""Settings: `SAYSO_*` environment variables, read once by `service.__main__`, then passed down."""

import logging
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError

log = logging.getLogger(__name__)

DEFAULT_FALSE_MATCH_RATE = 0.01
"""Where neither the request, nor the operator, nor the model's contract names one."""

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "models" / "sayso.onnx"

RETIRED: Mapping[str, str] = {
    "SAYSO_CACHE_SPEAKERS": "speakers are always read from the store",
    "SAYSO_LOCK_WINDOW_S": "failures count until the speaker is accepted, whenever they come",
    "SAYSO_MAX_HELD_BYTES": "requests hold 4 MiB each at most, and are counted for each tenant",
}
"""Variables that earlier versions read, and why they have no effect. They are no error: an upgrade
does not fail for them."""


OF_CLIENTS = frozenset(
    {
        "SAYSO_SERVER",
        "SAYSO_CREDENTIAL",
        "SAYSO_CA",
        "SAYSO_CLIENT_CERTIFICATE",
        "SAYSO_CLIENT_KEY",
        "SAYSO_SERVER_NAME",
        "SAYSO_TLS",
        "SAYSO_DEMO_AUDIO",
    }
)
"""Variables of the client commands and of the demo, which the server's environment may hold."""

# What Kubernetes and Docker put into the environment for a service of this name.
_OF_SERVICE_LINKS = re.compile(r"SAYSO_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)")


class Settings(BaseSettings):
    """Everything an operator can choose; each field is `SAYSO_` and its name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="SAYSO_", frozen=True, extra="forbid", allow_inf_nan=False
    )

    listen: str = Field("127.0.0.1:50051", description="host:port to serve on; port 0 picks one")
    model: Path = Field(SHIPPED_MODEL, description="the contract model file (.onnx)")
    allow_uncalibrated: bool = Field(
        False, description="start with a model without calibration: no call can be verified"
    )
    previous_model: Path | None = Field(
        None, description="the model before it, whose voiceprints count until callers have moved"
    )
    store: str = Field(
        "sqlite:///sayso.db", repr=False, description="sqlite:///file or redis://host:port/db"
    )
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto", description="where inference runs"
    )
    cuda_graphs: bool = Field(False, description="replay captured CUDA graphs, a batch at a time")
    threads: int = Field(
        0, ge=0, le=256, description="inference threads on a CPU; 0 uses every core"
    )
    workers: int = Field(1, ge=1, le=256, description="processes that share the port")
    metrics_listen: str | None = Field(None, description="host:port for Prometheus; unset: none")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")
    log_format: Literal["text", "json"] = Field("text", description="a line or an object an event")
    tracing: bool = Field(False, description="send OpenTelemetry traces, as OTEL_* says")

    insecure: bool = Field(
        False, description="plaintext for other machines, where something in front does TLS"
    )
    tls_certificate: Path | None = Field(None, description="PEM file of the server's certificate")
    tls_key: Path | None = Field(None, description="PEM file of its key, without a passphrase")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of roots; every client then shows a certificate of them"
    )
    reflection: bool = Field(True, description="tell the API to whoever asks")
    keys: Path | None = Field(None, description="key file: who may ask; see `sayso keys`")
    jwks: Path | None = Field(None, description="JWKS file of the issuer of tokens")
    jwt_issuer: str = Field("", description="`iss` of tokens")
    jwt_audience: str = Field("", description="`aud` of tokens")
    jwt_leeway_s: float = Field(30.0, ge=0, le=600, description="how far the clocks may differ")
    jwt_tenant_claim: str = Field("tenant", description="claim of tokens with the tenant")
    jwt_roles_claim: str = Field("roles", description="claim of tokens with the roles")

    master_key_file: Path | None = Field(
        None, description="file of master keys, the newest last, that voices are sealed under"
    )
    master_keys: SecretStr = Field(SecretStr(""), description="the master keys themselves")
    vault_address: str = Field("", description="https address of a Vault whose transit key it is")
    vault_key: str = Field("sayso", description="name of that key")
    vault_mount: str = Field("transit", description="where Vault's transit engine is mounted")
    vault_token_file: Path | None = Field(None, description="file of the token for Vault")
    vault_ca_file: Path | None = Field(None, description="PEM file of the roots of Vault's TLS")
    protect_templates: bool = Field(
        False, description="turn vectors by a secret rotation of the tenant before they are stored"
    )
    sealed_only: bool | None = Field(
        None,
        description="refuse stored records that are not sealed; unset: of tenants that have none",
    )

    tenant_requests_per_s: float = Field(
        0.0, ge=0, description="calls that a tenant may begin a second; 0: no limit"
    )
    tenant_audio_s_per_s: float = Field(
        0.0, ge=0, description="seconds of audio that a tenant may send a second; 0: no limit"
    )
    tenant_streams: int = Field(0, ge=0, description="a tenant's calls in progress; 0: no limit")
    tenant_speakers: int = Field(0, ge=0, description="speakers of a tenant; 0: no limit")
    tenant_burst_s: float = Field(
        10.0, gt=0, description="seconds for which a tenant may be ahead of its rates"
    )

    speaker_comparisons_per_s: float = Field(
        2.0, ge=0, description="windows of speech compared with a speaker a second; 0: no limit"
    )
    credential_comparisons_per_s: float = Field(
        1000.0,
        ge=0,
        description="windows of speech compared for a credential a second; 0: no limit",
    )
    comparison_burst_s: float = Field(
        300.0, gt=0, description="seconds for which comparisons may be ahead of their rates"
    )

    lock_after_failures: int = Field(
        5, ge=0, le=1000, description="failures in a row that lock a speaker; 0: never"
    )
    lock_disable_after: int = Field(
        50, ge=0, description="failures in all that lock it until an operator unlocks it; 0: never"
    )
    lock_s: float = Field(
        60.0, gt=0, description="seconds of the first lock; each further one lasts twice as long"
    )
    lock_longest_s: float = Field(86_400.0, gt=0, description="seconds that a lock lasts at most")

    audit: Path | None = Field(None, description="folder of the audit trail; unset: none is kept")
    audit_key: Path | None = Field(
        None, description="key of its pseudonyms and entries; unset: beside the folder, .key"
    )
    audit_heads: str = Field(
        "", description="file or syslog://host:port told the last entry; unset: the log alone"
    )
    audit_heads_every_s: float = Field(
        60.0, gt=0, description="seconds from one head of the trail to the next"
    )
    audit_sync: Literal["all", "changes"] = Field(
        "all", description="entries that wait for the disk; changes: decisions do not"
    )
    audit_strict: bool = Field(True, description="tell no decision that cannot be entered")
    audit_max_bytes: int = Field(64 * 2**20, ge=1, description="bytes of one file of the trail")
    audit_daily: bool = Field(False, description="begin a new file of the trail every day, UTC")

    max_audio_s: float = Field(300.0, gt=0, description="seconds of audio in one request or stream")
    max_call_s: float = Field(3600.0, gt=0, description="seconds of audio in one verified call")
    max_pause_s: float = Field(120.0, gt=0, description="seconds a stream may send no audio")
    max_audio_bytes: int = Field(
        16 * 2**20, gt=0, description="bytes of one recording; over 4 MiB it has to be streamed"
    )
    batch_items: int = Field(
        4, ge=1, le=256, description="recordings of one batch enrolment in work at once"
    )
    max_batch: int = Field(
        0, ge=0, le=1024, description="windows in one inference batch; 0: 4 on a CPU, 16 on a GPU"
    )
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

    require_consent: bool = Field(False, description="enrol and use no voice without a consent")
    confirm_enrollments: bool = Field(
        False, description="an operator confirms each voice before its first use"
    )
    expire_after_days: float = Field(
        1095.0, ge=0, description="days unused after which a voice is erased; 0: never"
    )
    expire_max_share: float = Field(
        0.1, gt=0, le=1, description="share of a tenant's voices that may expire in one day"
    )
    enroll_match_llr: float = Field(
        -3.0, description="log-likelihood ratio of new speech to the voice enrolled so far"
    )
    enroll_coherence_llr: float = Field(
        1.0, description="log-likelihood ratio between two windows of one recording, on average"
    )
    enroll_parts_llr: float = Field(
        -1.0, description="log-likelihood ratio between the two parts of a recording least alike"
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
        _check_names()
        given = {name: value for name, value in overrides.items() if value is not None}
        for variable in RETIRED.keys() & os.environ.keys():
            log.warning("%s has no effect: %s; unset it", variable, RETIRED[variable])
        try:
            return cls(**given)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = (
                f"SAYSO_{'.'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
            raise SettingsError("; ".join(problems)) from error


def variables() -> set[str]:
    """The environment variables that the server reads."""
    return {f"SAYSO_{name.upper()}" for name in Settings.model_fields}


def _check_names() -> None:
    """Raises `SettingsError` for variables that nothing reads, or that hold nothing: a misspelt
    `SAYSO_KEYS`, or one that a template left empty, would start a server that is open to all."""
    read = variables()
    problems = []
    for variable, value in sorted(os.environ.items()):
        name = variable.upper()
        if name in read and not value:
            problems.append(f"{variable} is empty; give it a value, or unset it")
        elif name.startswith("SAYSO_") and not _is_known(name, read):
            near = get_close_matches(name, read | OF_CLIENTS, n=1, cutoff=0.75)
            hint = (
                f"; did you mean {near[0]}?"
                if near
                else "; unset it, and `sayso info` lists all settings"
            )
            problems.append(f"{variable} is no setting{hint}")
    if problems:
        raise SettingsError("\n".join(problems))


def _is_known(name: str, read: set[str]) -> bool:
    known = read | OF_CLIENTS | RETIRED.keys()
    return name in known or _OF_SERVICE_LINKS.fullmatch(name) is not None
