"""TLS within TLS: to a server behind a proxy that is itself reached through TLS."""

from __future__ import annotations

import socket
import ssl

__all__ = ["NestedTls"]

# Bytes of plain text in one TLS record at most.
_RECORD = 16384


class NestedTls:
    """Behaves like a non-blocking SSLSocket, whose bytes travel through another SSLSocket."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._unsent = b""
        self._taken = 0

    def do_handshake(self) -> None:
        """Shake hands as far as it goes. Raises SSLWantReadError or SSLWantWriteError to wait."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._fill()
        self._flush()

    def send(self, data: bytes | memoryview) -> int:
        """Send a record's worth. After SSLWantWriteError, call again with the same data."""
        if not self._taken:
            self._taken = self._tls.write(memoryview(data)[:_RECORD])
        self._flush()
        sent, self._taken = self._taken, 0
        return sent

    def recv(self, size: int) -> bytes:
        """Return decrypted bytes, b"" at the end. Raises SSLWantReadError when there are none."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._fill()

    def recv_into(self, view: memoryview) -> int:
        """Write decrypted bytes into the view and return how many; 0 at the end."""
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._outer.fileno()

    def shutdown(self, how: int) -> None:
        """End the TCP connection beneath both layers."""
        socket.socket.shutdown(self._outer, how)

    def close(self) -> None:
        """Close without a word."""
        self._outer.close()

    def _fill(self) -> None:
        self._flush()
        data = self._outer.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        while self._unsent or self._outgoing.pending:
            self._unsent = self._unsent or self._outgoing.read()
            sent = self._outer.send(self._unsent)
            self._unsent = self._unsent[sent:]
