"""HTTP/2 by hand: what no gRPC client would send, such as a message that never ends."""

import socket
import struct
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
_ACK, _END_HEADERS = 1, 4
_INITIAL_WINDOW = 4
_DEFAULT_WINDOW_BYTES = 65_535
_MAX_FRAME_BYTES = 16_384


class RawConnection:
    """One connection; closed on leaving. Answers what HTTP/2 asks for while it reads."""

    def __init__(self, address: str, *, patience_s: float = 30.0) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=patience_s)
        self._patience_s = patience_s
        self._received = b""
        self._connection_bytes = self._initial_bytes = _DEFAULT_WINDOW_BYTES
        self._stream_bytes: dict[int, int] = {}
        self.ended: set[int] = set()
        self.cut_off = False
        self.pings_answered = 0
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(self, method: str, **metadata: str) -> int:
        """Begins a call by its headers, and gives the number of its stream."""
        stream = 2 * len(self._stream_bytes) + 1
        self._stream_bytes[stream] = self._initial_bytes
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            **{name.replace("_", "-"): value for name, value in metadata.items()},
        }
        block = b"".join(_field(name, value) for name, value in fields.items())
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, stream, block))
        return stream

    def send_message(self, stream: int, announced: int, sent: int, *, pause_s: float) -> int:
        """Send the first `sent` bytes of a message whose header announces `announced`; ends early
        when the server lets nothing through for `pause_s`, and gives how many bytes it took."""
        data = struct.pack(">BI", 0, announced) + bytes(sent)
        at = 0
        while at < len(data) and stream not in self.ended:
            window = min(self._connection_bytes, self._stream_bytes[stream], _MAX_FRAME_BYTES)
            if window <= 0:
                if not self.receive(pause_s):
                    break
                continue
            piece = data[at : at + window]
            self._socket.sendall(_frame(_DATA, 0, stream, piece))
            self._connection_bytes -= len(piece)
            self._stream_bytes[stream] -= len(piece)
            at += len(piece)
        return at

    def ping(self) -> None:
        """Send a ping and wait for its answer, or for the end of the connection."""
        answered = self.pings_answered
        self._socket.sendall(_frame(_PING, 0, 0, bytes(8)))
        while self.pings_answered == answered and not self.cut_off:
            assert self.receive(self._patience_s), "the ping was not answered"

    def receive(self, patience_s: float) -> bool:
        """Take what has come, or comes within `patience_s`; False when nothing does."""
        self._socket.settimeout(patience_s)
        try:
            received = self._socket.recv(65_536)
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(self._patience_s)
        if not received:
            self.cut_off = True
            return False
        self._received += received
        while len(self._received) >= 9:
            length = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + length:
                break
            head, payload = self._received[3:9], self._received[9 : 9 + length]
            self._received = self._received[9 + length :]
            self._take(head[0], head[1], int.from_bytes(head[2:], "big"), payload)
        return True

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self._connection_bytes += more
            else:
                self._stream_bytes[stream] += more
        elif kind == _SETTINGS and not flags & _ACK:
            self._take_settings(payload)
        elif kind == _PING:
            self.pings_answered += flags & _ACK
            if not flags & _ACK:
                self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            self.cut_off = True
        elif kind == _HEADERS and flags & 1:  # END_STREAM
            self.ended.add(stream)

    def _take_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == _INITIAL_WINDOW:
                for stream in self._stream_bytes:
                    self._stream_bytes[stream] += value - self._initial_bytes
                self._initial_bytes = value
        self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = struct.pack(">I", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _field(name: str, value: str) -> bytes:
    """A literal header field without indexing, as HPACK has it; both are under 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
