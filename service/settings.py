"""Settings: `SAYSO_*` environment variables, read once by `service.__main__`, then passed down.

A section is a value object that one part of the server takes whole; each of its fields names its
variable, so a new setting is one line here. All other settings are fields of `Settings` itself.
"""

import logging
import math
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from service.errors import SettingsError

log = logging.getLogger(__name__)

_DAY_S = 86_400.0

DEFAULT_FALSE_MATCH_RATE = 0.01
"""The target when neither the request, nor the operator, nor the model's contract sets one."""

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "models" / "sayso.onnx"

RETIRED: Mapping[str, str] = {
    "SAYSO_CACHE_SPEAKERS": "speakers are always read from the store",
    "SAYSO_LOCK_WINDOW_S": "failures count until the speaker is accepted, whenever they come",
    "SAYSO_MAX_HELD_BYTES": "requests hold 4 MiB each at most, and are counted for each tenant",
}
"""Variables that earlier versions read, and why they have no effect now. The server warns about
them but starts, so that an upgrade does not fail."""


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
"""Variables of the client commands and the demo; the server's environment may contain them."""

# Kubernetes and Docker add these to the environment for a service named sayso.
_OF_SERVICE_LINKS = re.compile(r"SAYSO_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)")


_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, populate_by_name=True)


def _setting(variable: str, default: object, description: str, **limits: Any) -> Any:
    """Declare a field of a section; `variable` is its name without `SAYSO_`, in lower case."""
    return Field(default, validation_alias=variable, description=description, **limits)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class TlsFiles:
    """PEM files, as the operator names them."""

    certificate: Path | None = _setting(
        "tls_certificate", None, "PEM file of the server's certificate"
    )
    key: Path | None = _setting("tls_key", None, "PEM file of its key, without a passphrase")
    client_ca: Path | None = _setting(
        "tls_client_ca", None, "PEM file of roots; every client then shows a certificate of them"
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class TokenRules:
    """Which tokens are accepted, and which of their claims name the tenant and the roles."""

    issuer: str = _setting("jwt_issuer", "", "`iss` of tokens")
    audience: str = _setting("jwt_audience", "", "`aud` of tokens")
    leeway_s: float = _setting("jwt_leeway_s", 30.0, "how far the clocks may differ", ge=0, le=600)
    tenant_claim: str = _setting("jwt_tenant_claim", "tenant", "claim of tokens with the tenant")
    roles_claim: str = _setting("jwt_roles_claim", "roles", "claim of tokens with the roles")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class MasterKeyOptions:
    """Where the master key is: in a file, in the environment, or in Vault."""

    file: Path | None = _setting(
        "master_key_file",
        None,
        "file of the master keys that encrypt voices, newest last",
    )
    keys: SecretStr = _setting("master_keys", SecretStr(""), "the master keys themselves")
    vault_address: str = _setting(
        "vault_address", "", "https address of the Vault that holds the master key"
    )
    vault_key: str = _setting("vault_key", "sayso", "name of the key in Vault's transit engine")
    vault_mount: str = _setting("vault_mount", "transit", "where Vault's transit engine is mounted")
    vault_token_file: Path | None = _setting(
        "vault_token_file", None, "file of the token for Vault"
    )
    vault_ca_file: Path | None = _setting(
        "vault_ca_file", None, "PEM file of the roots of Vault's TLS"
    )

    @property
    def is_set(self) -> bool:
        """Whether there is a master key, wherever it is."""
        return bool(self.file or self.keys.get_secret_value() or self.vault_address)


@dataclass(frozen=True, slots=True, config=_CONFIG)
class SealingOptions:
    """How voices are encrypted at rest. With `sealed_only`, unsealed records are refused; None
    refuses them only for tenants whose records are all known to be sealed."""

    protect_templates: bool = _setting(
        "protect_templates",
        False,
        "rotate vectors by a secret rotation of the tenant before storing them",
    )
    sealed_only: bool | None = _setting(
        "sealed_only",
        None,
        "refuse unsealed records; unset: only for tenants whose records are all sealed",
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class TenantQuota:
    """What each tenant may use of one process; 0 is no limit. A burst may use `burst_s` seconds'
    worth at once."""

    requests_per_s: float = _setting(
        "tenant_requests_per_s", 0.0, "calls that a tenant may begin a second; 0: no limit", ge=0
    )
    audio_s_per_s: float = _setting(
        "tenant_audio_s_per_s",
        0.0,
        "seconds of audio that a tenant may send a second; 0: no limit",
        ge=0,
    )
    streams: int = _setting("tenant_streams", 0, "a tenant's calls in progress; 0: no limit", ge=0)
    speakers: int = _setting("tenant_speakers", 0, "speakers of a tenant; 0: no limit", ge=0)
    burst_s: float = _setting(
        "tenant_burst_s", 10.0, "seconds for which a tenant may be ahead of its rates", gt=0
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class ComparisonRates:
    """How many windows of speech may be compared a second; 0 is no limit. A burst may use
    `burst_s` seconds' worth at once."""

    per_speaker: float = _setting(
        "speaker_comparisons_per_s",
        2.0,
        "windows of speech compared with a speaker a second; 0: no limit",
        ge=0,
    )
    per_credential: float = _setting(
        "credential_comparisons_per_s",
        1000.0,
        "windows of speech compared for a credential a second; 0: no limit",
        ge=0,
    )
    burst_s: float = _setting(
        "comparison_burst_s",
        300.0,
        "seconds for which comparisons may be ahead of their rates",
        gt=0,
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class LockRule:
    """When failed verifications lock a speaker.

    After `failures` in a row (0: never) a speaker is locked for `lock_s` seconds. Each further
    failure doubles that, up to `longest_s`. After `disable_after` failures in total (0: never)
    since an operator last unlocked it, it stays locked until an operator unlocks it again.
    """

    failures: int = _setting(
        "lock_after_failures", 5, "failures in a row that lock a speaker; 0: never", ge=0, le=1000
    )
    lock_s: float = _setting(
        "lock_s", 60.0, "seconds of the first lock; each further one lasts twice as long", gt=0
    )
    longest_s: float = _setting(
        "lock_longest_s", 86_400.0, "seconds that a lock lasts at most", gt=0
    )
    disable_after: int = _setting(
        "lock_disable_after",
        50,
        "failures in total that lock it until an operator unlocks it; 0: never",
        ge=0,
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AuditOptions:
    """Whether and how decisions and changes are recorded in the audit trail."""

    folder: Path | None = _setting("audit", None, "folder of the audit trail; unset: no trail")
    key: Path | None = _setting(
        "audit_key", None, "key of its pseudonyms and entries; unset: beside the folder, .key"
    )
    heads: str = _setting(
        "audit_heads",
        "",
        "file or syslog://host:port that gets the trail's head; unset: only the log",
    )
    heads_every_s: float = _setting(
        "audit_heads_every_s", 60.0, "seconds between two heads of the trail", gt=0
    )
    sync: Literal["all", "changes"] = _setting(
        "audit_sync", "all", "which entries wait for the disk; changes: decisions do not wait"
    )
    strict: bool = _setting(
        "audit_strict", True, "answer with an error if a decision cannot be recorded"
    )
    max_bytes: int = _setting("audit_max_bytes", 64 * 2**20, "bytes in one file of the trail", ge=1)
    daily: bool = _setting("audit_daily", False, "start a new file of the trail every day, UTC")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AudioBounds:
    """How much audio a recording and a call may have."""

    max_s: float = _setting("max_audio_s", 300.0, "seconds of audio in one request or stream", gt=0)
    max_bytes: int = _setting(
        "max_audio_bytes",
        16 * 2**20,
        "bytes of one recording; over 4 MiB it has to be streamed",
        gt=0,
    )
    max_call_s: float = _setting(
        "max_call_s", 3600.0, "seconds of audio in one verified call", gt=0
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class DecisionRules:
    """What the server itself asks of a call before it accepts the voice."""

    target_false_match_rate: float | None = _setting(
        "target_false_match_rate",
        None,
        "default threshold of requests; unset: the model's own",
        gt=0,
        lt=1,
    )
    min_speech_s: float = _setting(
        "min_verify_speech_s", 1.0, "seconds of net speech for a decision", ge=0, le=60
    )
    min_snr_db: float = _setting(
        "min_snr_db", 0.0, "signal-to-noise ratio for a decision, decibels"
    )
    max_clipping: float = _setting(
        "max_clipping", 0.1, "share of clipped speech samples", ge=0, le=1
    )


class Duplicates(StrEnum):
    """What to do with a voice that is already enrolled under another id."""

    ALLOW = "allow"
    FLAG = "flag"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, config=_CONFIG)
class EnrollmentRules:
    """What the operator requires of enrollments. An llr is a natural-log likelihood ratio.

    Three llrs have a minimum: `match_llr` of new speech against the voice enrolled so far,
    `coherence_llr` between two windows of one recording, on average, and `parts_llr` between the
    two parts of a recording that differ most. At most `duplicate_limit` speakers are searched for
    a duplicate; enrolling a new voice raises a false alarm at `duplicate_alarm_rate`.
    """

    consent_required: bool = _setting(
        "require_consent", False, "refuse to enroll or use a voice without consent"
    )
    confirm: bool = _setting(
        "confirm_enrollments", False, "an operator confirms each voice before its first use"
    )
    match_llr: float = _setting(
        "enroll_match_llr", -3.0, "log-likelihood ratio of new speech to the voice enrolled so far"
    )
    coherence_llr: float = _setting(
        "enroll_coherence_llr",
        1.0,
        "log-likelihood ratio between two windows of one recording, on average",
    )
    parts_llr: float = _setting(
        "enroll_parts_llr",
        -1.0,
        "log-likelihood ratio between the two parts of a recording that differ most",
    )
    duplicates: Duplicates = _setting(
        "duplicates",
        Duplicates.ALLOW,
        "what to do with a voice that is already enrolled under another id",
    )
    duplicate_alarm_rate: float = _setting(
        "duplicate_alarm_rate", 0.01, "share of new voices taken for a duplicate", gt=0, lt=1
    )
    duplicate_limit: int = _setting(
        "duplicate_limit", 10_000, "speakers searched for a duplicate; more are an error", ge=1
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class RetentionRules:
    """How long a voice is kept that nobody uses, and how many voices may expire in one day."""

    expire_after_days: float = _setting(
        "expire_after_days",
        1095.0,
        "days without use after which a voice is erased; 0: never",
        ge=0,
    )
    max_share: float = _setting(
        "expire_max_share",
        0.1,
        "share of a tenant's voices that may expire in one day",
        gt=0,
        le=1,
    )

    @property
    def expire_after_s(self) -> float:
        """In seconds; infinite if voices never expire."""
        return self.expire_after_days * _DAY_S or math.inf


@dataclass(frozen=True, slots=True, config=_CONFIG)
class EventRules:
    """How many events of a tenant are kept for watchers, and for how long."""

    most: int = _setting(
        "events_kept",
        10_000,
        "latest events of a tenant kept for WatchEvents; 0: none, and nobody can watch",
        ge=0,
        le=10_000_000,
    )
    kept_days: float = _setting("event_days", 3.0, "days for which an event is kept", gt=0, le=365)

    @property
    def kept_s(self) -> float:
        """In seconds."""
        return self.kept_days * _DAY_S


@dataclass(frozen=True, slots=True, config=_CONFIG)
class LearningRule:
    """Which accepted calls may change a voice: those whose llr is at least `margin_llr` above the
    server's threshold, on at least `min_speech_s` seconds of net speech."""

    margin_llr: float = 3.0
    min_speech_s: float = 5.0


@dataclass(frozen=True, slots=True, config=_CONFIG)
class AdaptationRule(LearningRule):
    """Whether, and by which calls, a voice is adapted."""

    margin_llr: float = _setting(
        "adapt_margin_llr", 3.0, "log-likelihood ratio above the threshold for adaptation", ge=0
    )
    min_speech_s: float = _setting(
        "adapt_min_speech_s", 5.0, "seconds of net speech for adaptation", ge=0
    )
    enabled: bool = _setting(
        "adapt", False, "add the speech of confidently accepted calls to the voice"
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class MigrationRule(LearningRule):
    """By which calls a speaker is migrated from the previous model to the current one."""

    margin_llr: float = _setting(
        "move_margin_llr",
        3.0,
        "log-likelihood ratio above the threshold for migration to the new model",
        ge=0,
    )
    min_speech_s: float = _setting(
        "move_min_speech_s", 3.0, "seconds of net speech for migration to the new model", ge=0
    )


@dataclass(frozen=True, slots=True, config=_CONFIG)
class SequentialDefaults:
    """The sequential test of a request that sets no error rates of its own."""

    false_match_rate: float = _setting(
        "sequential_false_match_rate",
        0.01,
        "of a sequential test, where the request names none",
        gt=0,
        lt=0.5,
    )
    false_non_match_rate: float = _setting(
        "sequential_false_non_match_rate",
        0.01,
        "of a sequential test, where the request names none",
        gt=0,
        lt=0.5,
    )
    max_speech_s: float = _setting(
        "sequential_max_speech_s",
        10.0,
        "net speech at which a sequential test must decide",
        gt=0,
    )


class Settings(BaseSettings):
    """All that an operator can set; each variable is `SAYSO_` and the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="SAYSO_", frozen=True, extra="forbid", allow_inf_nan=False
    )

    listen: str = Field("127.0.0.1:50051", description="host:port to serve on; port 0 picks one")
    model: Path = Field(SHIPPED_MODEL, description="the contract model file (.onnx)")
    allow_uncalibrated: bool = Field(
        False, description="start with a model without calibration: no call can be verified"
    )
    previous_model: Path | None = Field(
        None, description="the previous model, used for callers who have not been migrated yet"
    )
    policies: Path | None = Field(
        None, description="TOML file of named policies, which requests may ask for"
    )
    store: str = Field(
        "sqlite:///sayso.db", repr=False, description="sqlite:///file or redis://host:port/db"
    )
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto", description="where inference runs"
    )
    cuda_graphs: bool = Field(False, description="replay captured CUDA graphs, one batch at a time")
    threads: int = Field(
        0, ge=0, le=256, description="inference threads on a CPU; 0 uses every core"
    )
    workers: int = Field(1, ge=1, le=256, description="processes that share the port")
    metrics_listen: str | None = Field(None, description="host:port for Prometheus; unset: none")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="log level")
    log_format: Literal["text", "json"] = Field(
        "text", description="one line of text or one JSON object for each event"
    )
    tracing: bool = Field(False, description="send OpenTelemetry traces, configured by OTEL_*")

    insecure: bool = Field(
        False, description="serve plaintext to other machines, behind a proxy that does TLS"
    )
    tls: TlsFiles = TlsFiles()
    reflection: bool = Field(True, description="describe the API to any client (gRPC reflection)")
    keys: Path | None = Field(None, description="key file: which keys may call; see `sayso keys`")
    jwks: Path | None = Field(None, description="JWKS file of the issuer of tokens")
    tokens: TokenRules = TokenRules()

    master_key: MasterKeyOptions = MasterKeyOptions()
    sealing: SealingOptions = SealingOptions()

    tenant_quota: TenantQuota = TenantQuota()
    comparisons: ComparisonRates = ComparisonRates()
    lockout: LockRule = LockRule()
    trail: AuditOptions = AuditOptions()

    audio: AudioBounds = AudioBounds()
    max_pause_s: float = Field(120.0, gt=0, description="seconds a stream may send no audio")
    batch_items: int = Field(
        4, ge=1, le=256, description="recordings of one batch enrollment processed at once"
    )
    max_batch: int = Field(
        0, ge=0, le=1024, description="windows in one inference batch; 0: 4 on a CPU, 16 on a GPU"
    )
    max_queue: int = Field(
        1024, ge=1, description="windows that may wait before requests are refused"
    )
    max_batch_delay_s: float = Field(
        0.0, ge=0, le=1, description="seconds that a batch may wait for more windows"
    )
    max_streams: int = Field(
        1000, ge=1, description="calls that may be in progress before more are refused"
    )
    speech_threads: int = Field(
        2, ge=1, le=64, description="threads for decoding and voice activity"
    )

    decisions: DecisionRules = DecisionRules()
    min_enroll_speech_s: float = Field(
        5.0, ge=0, le=300, description="seconds of net speech for an enrollment"
    )
    max_vectors: int = Field(50, ge=1, le=1000, description="vectors kept in one voiceprint")

    enrollment: EnrollmentRules = EnrollmentRules()
    retention: RetentionRules = RetentionRules()
    events: EventRules = EventRules()
    adaptation: AdaptationRule = AdaptationRule()
    migration: MigrationRule = MigrationRule()
    sequential: SequentialDefaults = SequentialDefaults()

    drain_s: float = Field(
        10.0, ge=0, description="seconds that calls in progress may take at shutdown"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _fill_sections(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Move the value of each variable into every section with a field for it."""
        sections = {name: _fields_of(name) for name in _list_sections()}
        moved = {variable for fields in sections.values() for variable in fields}
        filled = {name: value for name, value in values.items() if name not in moved}
        for section, fields in sections.items():
            if inner := {variable: values[variable] for variable in fields if variable in values}:
                filled[section] = inner
        return filled

    @classmethod
    def read(cls, **overrides: object) -> Self:
        """Read the environment, then apply overrides that are not None.

        Overrides are named like variables, without `SAYSO_` and in lower case. Raises
        `SettingsError`, which names the variable.
        """
        _check_names()
        values = {name: value for name, value in overrides.items() if value is not None}
        for variable in RETIRED.keys() & os.environ.keys():
            log.warning("%s has no effect: %s; unset it", variable, RETIRED[variable])
        try:
            return cls(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = (
                f"{_to_variable(problem['loc'])}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
            raise SettingsError("; ".join(problems)) from error


class _Environment(PydanticBaseSettingsSource):
    """Reads the variables that are set, by name, whichever section their field is in."""

    def __call__(self) -> dict[str, Any]:
        environment = {variable.upper(): value for variable, value in os.environ.items()}
        return {
            name: environment[f"SAYSO_{name.upper()}"]
            for name in list_settings()
            if f"SAYSO_{name.upper()}" in environment
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("all variables are read at once")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: where its value is in `Settings`, its default and its description."""

    attribute: str
    default: Any
    description: str

    def value_in(self, settings: Settings) -> object:
        return attrgetter(self.attribute)(settings)


def list_settings() -> Mapping[str, Setting]:
    """List all settings by the names of their variables, without `SAYSO_` and in lower case."""
    listed: dict[str, Setting] = {}
    for name, field in Settings.model_fields.items():
        if name not in _list_sections():
            listed[name] = Setting(name, field.default, field.description or "")
            continue
        for variable, (attribute, inner) in _fields_of(name).items():
            listed[variable] = Setting(
                f"{name}.{attribute}", inner.default, inner.description or ""
            )
    return listed


def list_variables() -> set[str]:
    """List the environment variables that the server reads."""
    return {f"SAYSO_{name.upper()}" for name in list_settings()}


def _list_sections() -> Mapping[str, Any]:
    """Map each section's name in `Settings` to its type."""
    fields = Settings.model_fields.items()
    types = {name: field.annotation for name, field in fields}
    return {name: type_ for name, type_ in types.items() if hasattr(type_, "__pydantic_fields__")}


def _fields_of(section: str) -> Mapping[str, tuple[str, FieldInfo]]:
    """Map each variable of a section to the name and declaration of its field."""
    fields: Mapping[str, FieldInfo] = _list_sections()[section].__pydantic_fields__
    return {str(field.validation_alias): (name, field) for name, field in fields.items()}


def _to_variable(location: tuple[int | str, ...]) -> str:
    """Return the variable at a location in `Settings`."""
    inner = location[1:] if location[0] in _list_sections() and len(location) > 1 else location
    return f"SAYSO_{'.'.join(map(str, inner)).upper()}"


def _check_names() -> None:
    """Raise `SettingsError` for unknown or empty variables: a misspelled `SAYSO_KEYS`, or one that
    a template left empty, would start a server that is open to all."""
    read = list_variables()
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
    of_gateway = name.startswith("SAYSO_GATEWAY_")  # which may be started from the same environment
    return name in known or of_gateway or _OF_SERVICE_LINKS.fullmatch(name) is not None
