"""The console as a supervisor uses it: signing in at an issuer, undo, consent, unlock."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sayso import Client, SettingsError

from gateway.console import make_headers
from gateway.settings import Settings
from tests.support import keys
from tests.support.browsers import AVAILABLE, Tab, open_tab, write_microphone
from tests.support.gateways import run_gateway
from tests.support.oidc_issuer import AUDIENCE, CLIENT_ID, Issuer, run_issuer
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

PATIENCE_MS = 60_000
in_browser = pytest.mark.skipif(not AVAILABLE, reason="needs Debian's chromium and playwright")


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with run_issuer() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("desk")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    return keys.create(folder / "keys.json", "bank", "verify", "enroll", "admin")


@pytest.fixture(scope="module")
def server(folder: Path, key: str, issuer: Issuer) -> Iterator[SaysoServer]:
    with SaysoServer(
        store=f"sqlite:///{folder}/sayso.db",
        keys=folder / "keys.json",
        jwks=issuer.write_jwks(folder / "jwks.json"),
        jwt_issuer=issuer.url,
        jwt_audience=AUDIENCE,
        lock_after_failures=2,
    ) as running:
        yield running


@pytest.fixture
async def address(server: SaysoServer, issuer: Issuer) -> AsyncIterator[str]:
    async with run_gateway(
        server, console=True, oidc_issuer=issuer.url, oidc_client_id=CLIENT_ID
    ) as gateway:
        issuer.redirect_uri = f"http://{gateway.address}/console/"
        yield gateway.address


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    microphone = write_microphone(tmp_path / "any.wav", clips("slt", "verify")[0])
    async with open_tab(microphone) as opened:
        yield opened


async def go_to_issuer(tab: Tab, address: str) -> None:
    await tab.page.goto(f"http://{address}/")
    await tab.page.click("#sign-in-issuer", timeout=PATIENCE_MS)


@in_browser
async def test_one_signs_in_at_the_issuer(address: str, tab: Tab, issuer: Issuer) -> None:
    await go_to_issuer(tab, address)
    await tab.page.locator("#page").wait_for(timeout=PATIENCE_MS)
    roles = (await tab.page.inner_text("#roles")).split()
    assert sorted(roles) == sorted(issuer.roles.split())
    assert tab.page.url == f"http://{address}/console/", "no code is left in the address"
    assert tab.hosts == {address, f"127.0.0.1:{issuer.port}"}
    assert tab.errors == []
    await tab.page.click("#sign-out")
    await tab.page.locator("#sign-in-issuer").wait_for(timeout=PATIENCE_MS)


@in_browser
@pytest.mark.parametrize(
    ("change", "said"), [({"refuses": True}, "access_denied"), ({"forged_state": "x"}, "state")]
)
async def test_who_is_refused_is_told(
    address: str,
    tab: Tab,
    issuer: Issuer,
    change: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(issuer, name, value)
    await go_to_issuer(tab, address)
    await tab.page.locator("#sign-in-status", has_text=said).wait_for(timeout=PATIENCE_MS)
    assert await tab.page.locator("#page").is_hidden()


@in_browser
async def test_an_answer_that_nobody_asked_for_is_not_taken(
    address: str, tab: Tab, issuer: Issuer
) -> None:
    """A link with somebody else's code would sign one in as them."""
    await tab.page.goto(f"http://{address}/console/?code=of-another&state=of-another")
    await tab.page.locator("#sign-in-status", has_text="state").wait_for(timeout=PATIENCE_MS)
    assert await tab.page.locator("#page").is_hidden()
    assert f"127.0.0.1:{issuer.port}" not in tab.hosts


def enroll_and_lock(address: str, key: str) -> None:
    """The speaker `rms`, enrolled twice, whom two impostors have locked."""
    with Client(address, credential=key) as sayso:
        for path in clips("rms", "enroll"):
            sayso.enroll("rms", path)
        sayso.enroll("rms", clips("rms", "verify")[0])
        for _ in range(2):
            assert sayso.verify("rms", clips("awb", "verify")[0]).outcome == "REJECTED"


@in_browser
async def test_unlock_consent_and_undo(
    address: str, tab: Tab, server: SaysoServer, key: str
) -> None:
    enroll_and_lock(server.address, key)

    async def answer(dialog: Any) -> None:
        await dialog.accept("Form 27" if dialog.type == "prompt" else "")

    async def press(name: str, done: str) -> None:
        await tab.page.get_by_role("button", name=name, exact=True).click(timeout=PATIENCE_MS)
        await tab.page.locator("#speakers-status", has_text=done).wait_for(timeout=PATIENCE_MS)

    tab.page.on("dialog", answer)
    await tab.page.goto(f"http://{address}/")
    await tab.page.fill("#key", key)
    await tab.page.keyboard.press("Enter")
    await tab.page.fill("#speaker-query", "rms")
    await tab.page.keyboard.press("Enter")
    await tab.page.locator("#speaker-badges", has_text="locked").wait_for(timeout=PATIENCE_MS)
    with Client(server.address, credential=key) as sayso:
        before = sayso.speakers.get("rms")
        await press("Unlock", "rms is unlocked.")
        assert "locked" not in await tab.page.inner_text("#speaker-badges")
        await press("Record consent", "The consent of rms is recorded.")
        assert "Form 27" in await tab.page.inner_text("#speaker-facts")
        assert sayso.speakers.get("rms").consent == "Form 27"
        await press("Withdraw consent", "The consent of rms is removed.")
        assert not sayso.speakers.get("rms").consent
        await press("Undo enrollment", "The latest enrollment of rms is taken back.")
        assert sayso.speakers.get("rms").undo_levels == before.undo_levels - 1
    assert tab.errors == []


def test_the_page_may_ask_the_issuer_and_nobody_else() -> None:
    settings = Settings.read(
        console=True, oidc_issuer="https://login.example.com/realms/a", oidc_client_id="c"
    )
    assert "connect-src 'self' https://login.example.com;" in policy(settings)
    assert "connect-src 'self';" in policy(Settings.read(console=True))


def policy(settings: Settings) -> str:
    return make_headers(settings)["content-security-policy"]


@pytest.mark.parametrize(
    "issuer",
    [
        "http://login.example.com",
        "https://login.example.com; script-src *",
        "https://a.example 'unsafe-inline'",
        "https://a@b.example",
        "https://a.example?x",
        "login.example.com",
        "javascript:alert(1)",
    ],
)
def test_an_address_that_is_no_issuer_is_refused(issuer: str) -> None:
    with pytest.raises(SettingsError, match="OIDC_ISSUER"):
        Settings.read(console=True, oidc_issuer=issuer, oidc_client_id="c").check()
