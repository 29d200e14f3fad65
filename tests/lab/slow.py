"""A long way to the API server: every byte arrives a while later, as over a satellite or a busy tunnel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import yaml


@contextmanager
def slow_way(kubeconfig: str, folder: Path, *, delay_s: float) -> Iterator[str]:
    """Give a kubeconfig whose server answers `delay_s` later in each direction."""
    config = yaml.safe_load(Path(kubeconfig).read_text())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="slow-way", daemon=True)
    thread.start()
    try:
        way = _Way(str(server.hostname), int(server.port or 443), delay_s)
        port = asyncio.run_coroutine_threadsafe(way.open(), loop).result(10)
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        path = folder / "slow"
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        yield str(path)
        asyncio.run_coroutine_threadsafe(way.close(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Way:
    """Passes connections on, each chunk after the delay and in its order."""

    def __init__(self, host: str, port: int, delay_s: float) -> None:
        self._host = host
        self._port = port
        self._delay_s = delay_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.get_running_loop().create_task(self._pipe(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pipe(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await late.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    break
                target.write(data)
                await target.drain()

        delivering = loop.create_task(deliver())
        try:
            with suppress(OSError):
                while data := await source.read(65536):
                    late.put_nowait((loop.time() + self._delay_s, data))
            late.put_nowait((loop.time() + self._delay_s, b""))
            with suppress(OSError):
                await delivering
        finally:
            delivering.cancel()
            target.close()
