"""SIPp of Debian's sip-tester as a session recording client, with real audio in real time."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

needs_sipp = pytest.mark.skipif(
    shutil.which("sipp") is None, reason="sipp is missing: apt-get install sip-tester"
)

_HEADERS = """
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: <sip:sbc@[local_ip]:[local_port]>;tag=[pid]-[call_number]
      To: <sip:srs@[remote_ip]>[peer_tag_param]
      Call-ID: [call_id]
      Contact: <sip:sbc@[local_ip]:[local_port];transport=[transport]>;+sip.src
      Max-Forwards: 70"""
_OFFER = """
      v=0
      o=sbc 1 {version} IN IP4 [local_ip]
      s=-
      c=IN IP4 [media_ip]
      t=0 0
      m=audio [rtpstream_audio_port] RTP/AVP {codec}
      a=label:1
      a={direction}
"""
_METADATA = """
      <?xml version="1.0" encoding="UTF-8"?>
      <recording xmlns="urn:ietf:params:xml:ns:recording:1">
      <datamode>complete</datamode>
      <session session_id="{session}-[call_number]"/>
      <participant participant_id="p"><nameID aor="sip:7300@192.0.2.1"/></participant>
      <stream stream_id="s" session_id="{session}-[call_number]"><label>1</label></stream>
      <participantstreamassoc participant_id="p"><send>s</send></participantstreamassoc>
      </recording>
"""
_INVITE = """
  <send retrans="500"><![CDATA[
      INVITE sip:srs@[remote_ip]:[remote_port] SIP/2.0{headers}
      CSeq: {cseq} INVITE
      Require: siprec
      Content-Type: multipart/mixed;boundary=part
      Content-Length: [len]

      --part
      Content-Type: application/sdp
{offer}
      --part
      Content-Type: application/rs-metadata+xml
      Content-Disposition: recording-session
{metadata}
      --part--
  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="200"/>
  <send><![CDATA[
      ACK sip:srs@[remote_ip]:[remote_port] SIP/2.0{headers}
      CSeq: {cseq} ACK
      Content-Length: 0

  ]]></send>"""
_BYE = """
  <send retrans="500"><![CDATA[
      BYE sip:srs@[remote_ip]:[remote_port] SIP/2.0{headers}
      CSeq: 9 BYE
      Content-Length: 0

  ]]></send>
  <recv response="200"/>"""


def write_scenario(
    path: Path, audio: Path, session: str, *, codec: int = 0, seconds: float = 6.0,
    hold_s: float = 0.0,
) -> Path:  # fmt: skip
    """A call that plays G.711 for some seconds, half of them after a hold if there is one."""

    def invite(cseq: int, direction: str) -> str:
        return _INVITE.format(
            headers=_HEADERS,
            cseq=cseq,
            offer=_OFFER.format(version=cseq, codec=codec, direction=direction),
            metadata=_METADATA.format(session=session),
        )

    def play(action: str) -> str:
        return f'\n  <nop><action><exec rtp_stream="{action}"/></action></nop>'

    def pause(duration_s: float) -> str:
        return f'\n  <pause milliseconds="{duration_s * 1000:.0f}"/>'

    name = {0: "PCMU/8000", 8: "PCMA/8000"}[codec]
    steps = [invite(1, "sendonly"), play(f"{audio},1,{codec},{name}")]
    if hold_s:
        steps += [pause(seconds / 2), play("pause"), invite(2, "inactive"), pause(hold_s),
                  invite(3, "sendonly"), play("resume"), pause(seconds / 2)]  # fmt: skip
    else:
        steps.append(pause(seconds))
    body = "".join((*steps, _BYE.format(headers=_HEADERS)))
    path.write_text(f'<?xml version="1.0"?>\n<scenario name="siprec">{body}\n</scenario>\n')
    return path


async def run_sipp(scenario: Path, address: str, *, transport: str = "u1", calls: int = 1) -> None:
    """Make calls, ten a second; fails if one of them does not go as the scenario says."""
    process = await asyncio.create_subprocess_exec(
        "sipp", "-sf", str(scenario), "-m", str(calls), "-r", "10", "-t", transport,
        "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-timeout", "40s", "-timeout_error",
        "-trace_msg", "-message_file", str(scenario.with_suffix(".messages")), "-trace_err",
        "-max_socket", "500",
        "-error_file", str(scenario.with_suffix(".log")), address,
        cwd=scenario.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    log = scenario.with_suffix(".log")
    assert process.returncode == 0, (log.read_text() if log.exists() else "") + output.decode()


async def wait_for_answer(scenario: Path) -> None:
    """Until a call of the scenario was answered."""
    messages = scenario.with_suffix(".messages")
    async with asyncio.timeout(15.0):
        while not (messages.exists() and "SIP/2.0 200" in messages.read_text()):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def tunnel(address: str, trust: ssl.SSLContext) -> AsyncIterator[str]:
    """TLS for Debian's SIPp, which has none; yields host:port for TCP."""
    host, port = address.rsplit(":", 1)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection(host, int(port), ssl=trust, server_hostname="localhost")
        await asyncio.gather(copy(reader, far[1]), copy(far[0], writer), return_exceptions=True)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
