"""Carries connections from 127.0.0.1 into a lab: `python -m pytest_k8snet.lab.forward FD=ADDRESS:PORT ...`.

Each FD is a socket that listens already, opened outside of the lab's namespace; this program runs inside.
"""

from __future__ import annotations

import asyncio
import socket
import sys

_CHUNK = 65536


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
    try:
        there_reader, there_writer = await asyncio.open_connection(address, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
    for end in (writer, there_writer):
        end.close()


async def _serve(specs: list[str]) -> None:
    servers = []
    for spec in specs:
        number, _, target = spec.partition("=")
        address, _, port = target.rpartition(":")
        address = address.strip("[]")
        listening = socket.socket(fileno=int(number))
        listening.setblocking(False)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: tuple[str, int] = (address, int(port))) -> None:
            await _carry(reader, writer, *to)

        servers.append(await asyncio.start_server(connected, sock=listening))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
