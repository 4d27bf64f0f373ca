"""SIPREC: sessions over every transport, and streams as networks mangle them."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from gateway.server import RunningGateway
from tests.support import siprec_calls
from tests.support.call_audio import read_alaw
from tests.support.certificates import Authority, Pair
from tests.support.gateways import read_outcomes, run_gateway
from tests.support.sayso_server import SaysoServer
from tests.support.siprec_calls import (
    SESSION,
    RtpSender,
    SipClient,
    make_body,
    make_offer,
    make_packets,
    make_rtp,
)
from tests.support.voices import clips


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Pair]:
    authority = Authority(tmp_path_factory.mktemp("siprec"))
    return authority, authority.issue("localhost", [x509.DNSName("localhost")])


@pytest.fixture
async def gateway(
    server: SaysoServer, pair: tuple[Authority, Pair]
) -> AsyncIterator[RunningGateway]:
    async with run_gateway(
        server,
        siprec_listen="127.0.0.1:0",
        siprec_tls_listen="127.0.0.1:0",
        tls_certificate=pair[1].certificate,
        tls_key=pair[1].key,
        drain_s=0.0,
        max_pause_s=2.0,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "gateway")
    return caplog


@pytest.fixture(scope="session")
def caller_alaw() -> bytes:
    return read_alaw(*clips("slt", "verify"), *clips("slt", "enroll"))


def announce(server: SaysoServer, speaker: str = "slt", call_id: str = SESSION) -> None:
    with server.client() as sayso:
        sayso.announce_call(call_id, speaker)


def connect(
    gateway: RunningGateway, pair: tuple[Authority, Pair], transport: str = "udp"
) -> SipClient:
    if transport == "tls":
        trust = ssl.create_default_context(cafile=pair[0].certificate)
        return SipClient(gateway.siprec_tls or "", "tls", tls=trust)
    return SipClient(gateway.siprec or "", transport)


async def wait_for_end(gateway: RunningGateway) -> None:
    async with asyncio.timeout(15.0):
        while len(gateway.calls):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("codec", [0, 8])
async def test_the_callers_stream_is_verified(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    caller_alaw: bytes,
    impostor: bytes,
    logged: pytest.LogCaptureFixture,
    transport: str,
    codec: int,
) -> None:
    """Over every transport, in both codecs; the other stream is another's and is not heard."""
    announce(server)
    async with connect(gateway, pair, transport) as client:
        with RtpSender() as first, RtpSender() as second:
            answer = await client.invite(make_offer([first.port, second.port], codec=codec))
            assert answer.status == 200
            assert answer.body.count(b"a=recvonly") == 2
            assert f"RTP/AVP {codec}\r\n".encode() in answer.body
            assert b"a=label:1" in answer.body
            assert "+sip.srs" in answer.headers["contact"]
            audio = caller_alaw if codec else caller
            await asyncio.gather(
                first.send(make_packets(audio, codec=codec), answer.ports[0]),
                second.send(make_packets(impostor, codec=codec), answer.ports[1]),
            )
        assert (await client.ask("BYE")).status == 200
    await wait_for_end(gateway)
    assert read_outcomes(logged) == {SESSION: "ACCEPTED"}


@pytest.mark.parametrize(
    ("metadata", "call_id"),
    [(siprec_calls.ORACLE, "oracle-1"), (siprec_calls.RIBBON, "ribbon-1")],
)
async def test_the_metadata_say_that_the_caller_is_second(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    impostor: bytes,
    logged: pytest.LogCaptureFixture,
    metadata: str,
    call_id: str,
) -> None:
    announce(server, call_id=call_id)
    async with connect(gateway, pair) as client:
        with RtpSender() as first, RtpSender() as second:
            answer = await client.invite(make_offer([first.port, second.port]), metadata)
            await asyncio.gather(
                first.send(make_packets(impostor), answer.ports[0]),
                second.send(make_packets(caller), answer.ports[1]),
            )
        await client.ask("BYE")
    await wait_for_end(gateway)
    assert read_outcomes(logged) == {call_id: "ACCEPTED"}


async def test_packets_may_be_lost_come_twice_and_out_of_order(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    announce(server)
    packets = [packet for at, packet in enumerate(make_packets(caller)) if at % 20]
    mangled = [each for packet in siprec_calls.swap_neighbours(packets) for each in (packet,) * 2]
    async with connect(gateway, pair) as client:
        with RtpSender() as sender:
            answer = await client.invite(make_offer([sender.port]))
            await sender.send(mangled, answer.ports[0], pace_s=0.0005)
        await client.ask("BYE")
    await wait_for_end(gateway)
    assert read_outcomes(logged) == {SESSION: "ACCEPTED"}


async def test_a_stranger_injects_no_audio(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    impostor: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    """Neither from another address, before the call's own audio comes, nor from another port, with
    the same SSRC."""
    announce(server, "rms")
    async with connect(gateway, pair) as client:
        with RtpSender() as sender, RtpSender("127.0.0.2") as far, RtpSender() as near:
            answer = await client.invite(make_offer([sender.port]))
            [port] = answer.ports
            await far.send(make_packets(impostor)[:400], port)
            await sender.send(make_packets(caller)[:5], port)
            await near.send(make_packets(impostor)[:400], port)
            await sender.send(make_packets(caller)[5:], port)
        await client.ask("BYE")
    await wait_for_end(gateway)
    assert read_outcomes(logged) == {SESSION: "REJECTED"}, "the impostor's voice is rms, the claim"
    assert "audio from 127.0.0.2" in logged.text


async def test_a_call_is_held_and_resumed(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    """A hold may be longer than any other pause; after it the stream comes from another port and
    begins anew."""
    announce(server)
    packets = make_packets(caller)
    async with connect(gateway, pair) as client:
        with RtpSender() as sender, RtpSender() as later:
            answer = await client.invite(make_offer([sender.port]))
            await sender.send(packets[:50], answer.ports[0])
            held = await client.invite(make_offer([sender.port], direction="inactive"))
            assert b"a=inactive" in held.body
            await asyncio.sleep(3.0)
            kind, body = make_body(make_offer([later.port]), None)
            resumed = await client.ask("UPDATE", body, kind)
            assert resumed.status == 200
            assert resumed.ports == answer.ports
            again = [make_rtp(x[12:], at, ssrc=7) for at, x in enumerate(packets[50:], 9)]
            await later.send(again, resumed.ports[0])
        assert (await client.ask("BYE")).status == 200
    await wait_for_end(gateway)
    assert read_outcomes(logged) == {SESSION: "ACCEPTED"}


async def test_silence_ends_a_session(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    logged: pytest.LogCaptureFixture,
) -> None:
    announce(server)
    async with connect(gateway, pair) as client:
        await client.invite(make_offer([9]))
        bye = await client.receive()
        again = await client.receive()
        assert bye.first.startswith("BYE sip:sbc@127.0.0.1:")
        assert again.first == bye.first, "it is sent again until it is answered"
        answered = "\r\n".join(
            ["SIP/2.0 200 OK"]
            + [f"{name}: {bye.headers[name]}" for name in ("via", "from", "to", "call-id", "cseq")]
        )
        await client.send(f"{answered}\r\nContent-Length: 0\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            await client.receive(within_s=2.5)
    assert "no audio came for 2 s" in logged.text


async def test_a_session_goes_on_after_the_decision(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    """What comes then is not read, and keeps the session open; without it the session ends."""
    announce(server)
    async with connect(gateway, pair) as client:
        with RtpSender() as sender:
            answer = await client.invite(make_offer([sender.port]))
            packets = make_packets(caller)
            await sender.send(packets, answer.ports[0])
            async with asyncio.timeout(10.0):
                while not read_outcomes(logged):
                    await sender.send(packets[:1], answer.ports[0], pace_s=0.05)
            await sender.send(packets[:175], answer.ports[0], pace_s=0.02)
            assert (await client.ask("INFO")).status == 200
            assert (await client.receive()).first.startswith("BYE ")
    assert read_outcomes(logged) == {SESSION: "ACCEPTED"}


async def test_bye_within_the_decision(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    """What was said until then counts."""
    announce(server)
    async with connect(gateway, pair, "tcp") as client:
        with RtpSender() as sender:
            answer = await client.invite(make_offer([sender.port]))
            await sender.send(make_packets(caller[: 8000 // 2]), answer.ports[0])
            assert (await client.ask("BYE")).status == 200
            assert (await client.ask("BYE")).status == 481
    await wait_for_end(gateway)
    assert read_outcomes(logged) == {SESSION: "INCONCLUSIVE"}


async def test_the_answer_is_sent_again_until_it_is_acknowledged(
    gateway: RunningGateway, server: SaysoServer, pair: tuple[Authority, Pair]
) -> None:
    announce(server)
    async with connect(gateway, pair) as client:
        kind, body = make_body(make_offer([9], direction="inactive"), siprec_calls.RFC_7865)
        invite = client.make("INVITE", body, kind)
        await client.send(invite)
        answers = [await client.receive() for _ in range(3)]
        assert [each.status for each in answers] == [100, 200, 200]
        assert answers[1].body == answers[2].body
        await client.send(invite)
        assert (await client.receive(0.2)).body == answers[1].body, "a request that came twice"
        client.to_tag = answers[1].headers["to"].partition("tag=")[2]
        await client.send(client.make("ACK", branch="other"))
        with pytest.raises(TimeoutError):
            await client.receive(within_s=1.5)
        assert (await client.ask("BYE")).status == 200


async def test_an_invite_is_cancelled(
    gateway: RunningGateway, pair: tuple[Authority, Pair]
) -> None:
    """Before the server has said whose call it is."""
    async with connect(gateway, pair) as client:
        kind, body = make_body(make_offer([9]), siprec_calls.RFC_7865)
        await client.send(client.make("INVITE", body, kind))
        await client.send(client.make("CANCEL"))
        answers = [await client.receive() for _ in range(3)]
    assert {(each.status, each.headers["cseq"]) for each in answers} == {
        (100, "1 INVITE"), (200, "1 CANCEL"), (487, "1 INVITE")
    }  # fmt: skip


async def test_cancel_of_nothing(gateway: RunningGateway, pair: tuple[Authority, Pair]) -> None:
    async with connect(gateway, pair) as client:
        assert (await client.ask("CANCEL", cseq="9")).status == 481


async def test_a_session_lasts_as_long_as_it_is_refreshed(
    gateway: RunningGateway, server: SaysoServer, pair: tuple[Authority, Pair]
) -> None:
    announce(server)
    async with connect(gateway, pair) as client:
        short = await client.invite(make_offer([9]), Supported="timer", Session_Expires="60")
        assert (short.status, short.headers["min-se"]) == (422, "90")
        answer = await client.invite(make_offer([9]), Supported="timer", Session_Expires="1800")
        assert answer.headers["session-expires"] == "1800;refresher=uac"
        refreshed = await client.ask("UPDATE", Supported="timer", x="900")
        assert refreshed.headers["session-expires"] == "900;refresher=uac"
        assert (await client.ask("BYE")).status == 200


@pytest.mark.parametrize(
    ("metadata", "status", "says"),
    [
        ("<recording>", 400, "not XML"),
        ("<other/>", 400, "not a <recording>"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><recording>&a;</recording>', 400, "document type"),
        ("<a>" * 40, 400, "nested too deeply"),
        (None, 403, "has no id 'session'"),
        (siprec_calls.RFC_7865, 403, "the call was not announced"),
        (siprec_calls.RFC_7865.replace("<send>s2<", "<send>s1<"), 488, "a mix of speakers"),
    ],
)
async def test_what_is_refused(
    gateway: RunningGateway,
    pair: tuple[Authority, Pair],
    logged: pytest.LogCaptureFixture,
    metadata: str | None,
    status: int,
    says: str,
) -> None:
    async with connect(gateway, pair) as client:
        assert (await client.invite(make_offer([9, 9]), metadata)).status == status
    assert says in logged.text
    assert len(gateway.calls) == 0


@pytest.mark.parametrize(
    ("offer", "status"),
    [
        (make_offer([9]).replace("RTP/AVP", "RTP/SAVP"), 488),
        (make_offer([9]).replace("AVP 0", "AVP 18"), 488),
        ("v=0", 400),
        (make_offer([9]) + "m=\r\n", 400),
        (make_offer(range(40)), 400),
    ],
)
async def test_offers_that_are_refused(
    gateway: RunningGateway, pair: tuple[Authority, Pair], offer: str, status: int
) -> None:
    async with connect(gateway, pair) as client:
        assert (await client.invite(offer)).status == status


async def test_a_change_that_is_refused_changes_nothing(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    logged: pytest.LogCaptureFixture,
) -> None:
    announce(server)
    async with connect(gateway, pair) as client:
        with RtpSender() as sender:
            answer = await client.invite(make_offer([sender.port]))
            await sender.send(make_packets(caller)[:20], answer.ports[0])
            assert (await client.invite(make_offer([sender.port], codec=8), None)).status == 488
            kind = "application/rs-metadata+xml"
            assert (await client.ask("UPDATE", b"<broken", kind)).status == 400
            assert (await client.ask("UPDATE", siprec_calls.RFC_7865.encode(), kind)).status == 200
            assert (await client.ask("INFO")).status == 200
            assert (await client.ask("REFER")).status == 405
            assert (await client.ask("OPTIONS", Require="100rel")).status == 420
            await sender.send(make_packets(caller)[20:], answer.ports[0])
        await client.ask("BYE")
    await wait_for_end(gateway)
    assert read_outcomes(logged) == {SESSION: "ACCEPTED"}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (siprec_calls.ORACLE, "is on another stream now"),
        (siprec_calls.RFC_7865.replace("<send>s2<", "<send>s1<"), "is mixed with others"),
    ],
)
async def test_no_other_voice_is_heard_after_the_caller(
    gateway: RunningGateway,
    server: SaysoServer,
    pair: tuple[Authority, Pair],
    caller: bytes,
    impostor: bytes,
    logged: pytest.LogCaptureFixture,
    metadata: str,
    says: str,
) -> None:
    """Metadata that come later can move the caller to another stream, or others onto theirs."""
    announce(server)
    async with connect(gateway, pair) as client:
        with RtpSender() as first, RtpSender() as second:
            answer = await client.invite(make_offer([first.port, second.port]))
            await first.send(make_packets(caller[: 8000 // 2]), answer.ports[0])
            kind = "application/rs-metadata+xml"
            assert (await client.ask("UPDATE", metadata.encode(), kind)).status == 200
            await first.send(make_packets(caller, first=65_525)[:300], answer.ports[0])
            await second.send(make_packets(caller)[:300], answer.ports[1])
        await client.ask("BYE")
    await wait_for_end(gateway)
    assert says in logged.text
    assert read_outcomes(logged) == {SESSION: "INCONCLUSIVE"}, "half a second was heard"


async def test_a_gateway_that_stops_says_goodbye(
    server: SaysoServer, pair: tuple[Authority, Pair]
) -> None:
    for number in range(2):
        announce(server, call_id=f"left-{number}")
    async with contextlib.AsyncExitStack() as stack:
        async with run_gateway(
            server, siprec_listen="127.0.0.1:0", siprec_call_id="x-call", drain_s=0.0
        ) as gateway:
            udp = await stack.enter_async_context(connect(gateway, pair))
            tcp = await stack.enter_async_context(connect(gateway, pair, "tcp"))
            for number, client in enumerate((udp, tcp)):
                answer = await client.invite(make_offer([9]), None, x_call=f"left-{number}")
                assert answer.status == 200
        for client in (udp, tcp):
            assert (await client.receive()).first.startswith("BYE ")


async def test_a_full_gateway_says_so(server: SaysoServer, pair: tuple[Authority, Pair]) -> None:
    for number in (1, 2):
        announce(server, call_id=f"full-{number}")
    async with (
        run_gateway(
            server, siprec_listen="127.0.0.1:0", siprec_call_id="X-Call", max_calls=1, drain_s=0.0
        ) as gateway,
        connect(gateway, pair) as one,
        connect(gateway, pair) as two,
    ):
        assert (await one.invite(make_offer([9]), None, X_Call="full-1")).status == 200
        answer = await two.invite(make_offer([9]), None, X_Call="full-2")
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        await one.ask("BYE")
        await wait_for_end(gateway)
        assert (await two.invite(make_offer([9]), None, X_Call="full-2")).status == 200


async def test_an_unreachable_server_is_unavailable(pair: tuple[Authority, Pair]) -> None:
    async with (
        run_gateway("127.0.0.1:1", siprec_listen="127.0.0.1:0") as gateway,
        connect(gateway, pair) as client,
    ):
        answer = await client.invite(make_offer([9]))
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")


async def test_other_networks_are_not_answered(
    server: SaysoServer, pair: tuple[Authority, Pair], logged: pytest.LogCaptureFixture
) -> None:
    async with run_gateway(
        server, siprec_listen="127.0.0.1:0", siprec_allow="10.0.0.0/8"
    ) as gateway:
        async with connect(gateway, pair) as client:
            await client.send(client.make("OPTIONS"))
            with pytest.raises(TimeoutError):
                await client.receive(within_s=0.3)
        async with connect(gateway, pair, "tcp") as client:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.ask("OPTIONS")
    assert logged.text.count("127.0.0.1 is in no allowed network") == 1


async def test_peers_show_a_certificate_if_it_is_asked_for(
    server: SaysoServer, pair: tuple[Authority, Pair], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    shown = authority.issue("sbc", [x509.DNSName("sbc")])
    trust = ssl.create_default_context(cafile=pair[0].certificate)
    async with run_gateway(
        server,
        siprec_tls_listen="127.0.0.1:0",
        siprec_client_ca=authority.certificate,
        tls_certificate=pair[1].certificate,
        tls_key=pair[1].key,
    ) as gateway:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            async with SipClient(gateway.siprec_tls or "", "tls", tls=trust) as client:
                await client.ask("OPTIONS")
        trust.load_cert_chain(shown.certificate, shown.key)
        async with SipClient(gateway.siprec_tls or "", "tls", tls=trust) as client:
            assert (await client.ask("OPTIONS")).status == 200
