import pytest

from service.errors import SettingsError
from service.settings import RETIRED, Settings


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
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("variable", RETIRED)
def test_a_retired_setting_is_ignored_with_a_warning(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, "536870912")
    assert Settings.read().max_streams == 1000
    assert f"{variable} has no effect" in caplog.text


def test_no_setting_is_retired_and_there() -> None:
    assert not {f"SAYSO_{name.upper()}" for name in Settings.model_fields} & RETIRED.keys()
