"""The console in a real Chromium, whose microphone plays a file, on a real gateway and server."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import keys
from tests.support.browsers import AVAILABLE, Tab, open_tab, write_microphone
from tests.support.gateways import run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs Debian's chromium and playwright")

PATIENCE_MS = 60_000
EVERY_ROLE = ("verify", "enroll", "analyze", "admin", "watch", "confirm")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def key(key_file: Path) -> str:
    return keys.create(key_file, "bank", *EVERY_ROLE)


@pytest.fixture(scope="module")
def server(
    key: str, key_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SaysoServer]:
    store = f"sqlite:///{tmp_path_factory.mktemp('console')}/sayso.db"
    with SaysoServer(store=store, keys=key_file) as running:
        yield running


@pytest.fixture
async def address(server: SaysoServer) -> AsyncIterator[str]:
    async with run_gateway(server, console=True) as gateway:
        yield gateway.address


async def sign_in(tab: Tab, address: str, key: str) -> None:
    await tab.page.goto(f"http://{address}/")
    await tab.page.fill("#key", key)
    await tab.page.keyboard.press("Enter")


async def verify(tab: Tab, speaker_id: str) -> str:
    await tab.page.fill("#speaker-id", speaker_id)
    await tab.page.click("#verify")
    decided = tab.page.locator("#decision", has_text="accepted").or_(
        tab.page.locator("#decision", has_text="rejected")
    )
    await decided.wait_for(timeout=PATIENCE_MS)
    return str(await tab.page.inner_text("#decision"))


async def test_a_voice_is_enrolled_and_told_from_another(
    address: str, key: str, tmp_path: Path
) -> None:
    own = write_microphone(tmp_path / "own.wav", *clips("slt", "enroll"), *clips("slt", "verify"))
    async with open_tab(own) as tab:
        await sign_in(tab, address, key)
        await tab.page.fill("#speaker-id", "slt")
        await tab.page.click("#enroll")
        await tab.page.locator("#verify:enabled").wait_for(timeout=PATIENCE_MS)
        assert "Enrolled" in await tab.page.inner_text("#enroll-answer")
        assert await verify(tab, "slt") == "accepted"
        await tab.page.locator("#calls-rows", has_text="slt").wait_for(timeout=PATIENCE_MS)
        assert tab.errors == []
        assert tab.hosts == {address}
    other = write_microphone(tmp_path / "other.wav", *clips("awb", "verify"))
    async with open_tab(other, viewport={"width": 420, "height": 900}) as tab:
        await sign_in(tab, address, key)
        assert await verify(tab, "slt") == "rejected"
        width = await tab.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 420
        assert tab.errors == []


async def test_a_wrong_key_signs_nobody_in(address: str, tmp_path: Path) -> None:
    silent = write_microphone(tmp_path / "any.wav", clips("slt", "verify")[0])
    async with open_tab(silent) as tab:
        await sign_in(tab, address, "sayso_wrong")
        said = tab.page.locator("#sign-in-status:not(:empty)")
        await said.wait_for(timeout=PATIENCE_MS)
        assert await tab.page.locator("#page").is_hidden()


async def test_what_the_roles_do_not_allow_is_not_offered(
    address: str, key_file: Path, tmp_path: Path
) -> None:
    silent = write_microphone(tmp_path / "any.wav", clips("slt", "verify")[0])
    limited = keys.create(key_file, "bank", "verify")
    async with open_tab(silent, locale="de-DE") as tab:
        await sign_in(tab, address, limited)
        await tab.page.locator("#verify:enabled").wait_for(timeout=PATIENCE_MS)
        assert await tab.page.locator("#enroll").is_disabled()
        assert "enroll" in await tab.page.inner_text("#enroll-lacks")
        assert await tab.page.evaluate("document.documentElement.lang") == "de"
        assert tab.errors == []
