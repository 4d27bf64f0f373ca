import pytest

from service.errors import SettingsError
from service.settings import RETIRED, Settings, list_settings, list_variables

NAMES = {
    "SAYSO_LISTEN",
    "SAYSO_MODEL",
    "SAYSO_ALLOW_UNCALIBRATED",
    "SAYSO_POLICIES",
    "SAYSO_PREVIOUS_MODEL",
    "SAYSO_STORE",
    "SAYSO_DEVICE",
    "SAYSO_CUDA_GRAPHS",
    "SAYSO_THREADS",
    "SAYSO_WORKERS",
    "SAYSO_METRICS_LISTEN",
    "SAYSO_LOG_LEVEL",
    "SAYSO_LOG_FORMAT",
    "SAYSO_TRACING",
    "SAYSO_INSECURE",
    "SAYSO_TLS_CERTIFICATE",
    "SAYSO_TLS_KEY",
    "SAYSO_TLS_CLIENT_CA",
    "SAYSO_REFLECTION",
    "SAYSO_KEYS",
    "SAYSO_JWKS",
    "SAYSO_JWT_ISSUER",
    "SAYSO_JWT_AUDIENCE",
    "SAYSO_JWT_LEEWAY_S",
    "SAYSO_JWT_TENANT_CLAIM",
    "SAYSO_JWT_ROLES_CLAIM",
    "SAYSO_MASTER_KEY_FILE",
    "SAYSO_MASTER_KEYS",
    "SAYSO_VAULT_ADDRESS",
    "SAYSO_VAULT_KEY",
    "SAYSO_VAULT_MOUNT",
    "SAYSO_VAULT_TOKEN_FILE",
    "SAYSO_VAULT_CA_FILE",
    "SAYSO_PROTECT_TEMPLATES",
    "SAYSO_SEALED_ONLY",
    "SAYSO_TENANT_REQUESTS_PER_S",
    "SAYSO_TENANT_AUDIO_S_PER_S",
    "SAYSO_TENANT_STREAMS",
    "SAYSO_TENANT_SPEAKERS",
    "SAYSO_TENANT_BURST_S",
    "SAYSO_SPEAKER_COMPARISONS_PER_S",
    "SAYSO_CREDENTIAL_COMPARISONS_PER_S",
    "SAYSO_COMPARISON_BURST_S",
    "SAYSO_LOCK_AFTER_FAILURES",
    "SAYSO_LOCK_DISABLE_AFTER",
    "SAYSO_LOCK_S",
    "SAYSO_LOCK_LONGEST_S",
    "SAYSO_AUDIT",
    "SAYSO_AUDIT_KEY",
    "SAYSO_AUDIT_HEADS",
    "SAYSO_AUDIT_HEADS_EVERY_S",
    "SAYSO_AUDIT_SYNC",
    "SAYSO_AUDIT_STRICT",
    "SAYSO_AUDIT_MAX_BYTES",
    "SAYSO_AUDIT_DAILY",
    "SAYSO_MAX_AUDIO_S",
    "SAYSO_MAX_CALL_S",
    "SAYSO_MAX_PAUSE_S",
    "SAYSO_MAX_AUDIO_BYTES",
    "SAYSO_BATCH_ITEMS",
    "SAYSO_MAX_BATCH",
    "SAYSO_MAX_QUEUE",
    "SAYSO_MAX_BATCH_DELAY_S",
    "SAYSO_MAX_STREAMS",
    "SAYSO_SPEECH_THREADS",
    "SAYSO_TARGET_FALSE_MATCH_RATE",
    "SAYSO_MIN_VERIFY_SPEECH_S",
    "SAYSO_MIN_ENROLL_SPEECH_S",
    "SAYSO_MIN_SNR_DB",
    "SAYSO_MAX_CLIPPING",
    "SAYSO_MAX_VECTORS",
    "SAYSO_REQUIRE_CONSENT",
    "SAYSO_CONFIRM_ENROLLMENTS",
    "SAYSO_EXPIRE_AFTER_DAYS",
    "SAYSO_EVENTS_KEPT",
    "SAYSO_EVENT_DAYS",
    "SAYSO_EXPIRE_MAX_SHARE",
    "SAYSO_ENROLL_MATCH_LLR",
    "SAYSO_ENROLL_COHERENCE_LLR",
    "SAYSO_ENROLL_PARTS_LLR",
    "SAYSO_DUPLICATES",
    "SAYSO_DUPLICATE_ALARM_RATE",
    "SAYSO_DUPLICATE_LIMIT",
    "SAYSO_ADAPT",
    "SAYSO_ADAPT_MARGIN_LLR",
    "SAYSO_ADAPT_MIN_SPEECH_S",
    "SAYSO_MOVE_MARGIN_LLR",
    "SAYSO_MOVE_MIN_SPEECH_S",
    "SAYSO_SEQUENTIAL_FALSE_MATCH_RATE",
    "SAYSO_SEQUENTIAL_FALSE_NON_MATCH_RATE",
    "SAYSO_SEQUENTIAL_MAX_SPEECH_S",
    "SAYSO_DRAIN_S",
}
"""Every variable that the server reads: one that is renamed keeps its old name as an alias."""


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_MAX_BATCH", "4")
    assert Settings.read().max_batch == 4


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYSO_STORE", "redis://localhost")
    assert Settings.read(store="sqlite:///other.db", listen=None).store == "sqlite:///other.db"


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_BATCH", "-1"), ("DEVICE", "tpu"), ("TARGET_FALSE_MATCH_RATE", "1"), ("DRAIN_S", "soon")],
)
def test_a_bad_value_names_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SAYSO_{name}", value)
    with pytest.raises(SettingsError, match=f"SAYSO_{name}"):
        Settings.read()


def test_every_setting_says_what_it_means() -> None:
    assert all(setting.description for setting in list_settings().values())


@pytest.mark.parametrize("variable", RETIRED)
def test_a_retired_setting_is_ignored_with_a_warning(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, "536870912")
    assert Settings.read().max_streams == 1000
    assert f"{variable} has no effect" in caplog.text


def test_every_name_is_read_as_ever() -> None:
    assert list_variables() == NAMES


def test_no_setting_is_retired_and_there() -> None:
    assert not list_variables() & RETIRED.keys()
