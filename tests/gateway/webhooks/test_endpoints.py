"""The TOML file of endpoints."""

from pathlib import Path

import pytest
from sayso import SettingsError

from gateway.webhooks.endpoints import read_webhooks
from tests.support.webhook_receiver import write_webhooks


def test_what_is_not_said_is_as_documented(tmp_path: Path) -> None:
    read = read_webhooks(write_webhooks(tmp_path, "https://desk.example.com/hooks"))
    desk = read.endpoints["desk"]
    assert (read.source, read.max_pending) == ("/sayso", 10_000)
    assert len(desk.types) == 7
    assert (desk.timeout_s, desk.disabled) == (20.0, False)


@pytest.mark.parametrize(
    ("url", "more", "says"),
    [
        ("ftp://desk.example.com", "", "must be https"),
        ("http://desk.example.com", "", "must be https, or set allow_http"),
        ("https://user:secret@desk.example.com", "", "holds a password"),
        ("https://desk.example.com", 'events = ["call.over"]', "call.over is none of"),
        ("https://desk.example.com", "timeout_s = 0", "endpoints.desk.timeout_s"),
        ("https://desk.example.com", "even = 1", "endpoints.desk.even"),
        ("https://desk.example.com", "[endpoints.'a b']", "endpoints"),
        ("https://desk.example.com", "[", "cannot be read"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, url: str, more: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_webhooks(write_webhooks(tmp_path, url, more=more))


def test_http_may_be_allowed(tmp_path: Path) -> None:
    file = write_webhooks(tmp_path, "http://desk.example.com", more="allow_http = true")
    assert read_webhooks(file).endpoints["desk"].url == "http://desk.example.com"


def test_secrets_that_others_can_read_are_refused(tmp_path: Path) -> None:
    file = write_webhooks(tmp_path, "https://desk.example.com")
    (tmp_path / "desk.secrets").chmod(0o640 if (tmp_path.stat().st_uid != 0) else 0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        read_webhooks(file)


def test_a_secret_that_cannot_be_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"endpoints\.desk: a secret begins") as caught:
        read_webhooks(write_webhooks(tmp_path, "https://desk.example.com", "hunter2"))
    assert "hunter2" not in str(caught.value)
