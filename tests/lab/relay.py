"""A TCP relay that delays every byte like a long line, for kernels without netem.

    python relay.py LISTEN_ADDRESS LISTEN_PORT TARGET_ADDRESS TARGET_PORT DELAY_SECONDS

The delay applies to each direction; throughput is limited by 16 MiB in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_CHUNK_BYTES = 65536
_CHUNKS_IN_FLIGHT = 256


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float
) -> None:
    clock = asyncio.get_running_loop().time
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_IN_FLIGHT)

    async def receive() -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                data = b""
            await line.put((clock() + delay_seconds, data))

    receiving = asyncio.create_task(receive())
    try:
        while True:
            due, data = await line.get()
            await asyncio.sleep(due - clock())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()
    finally:
        receiving.cancel()


async def _serve(
    near_reader: asyncio.StreamReader,
    near_writer: asyncio.StreamWriter,
    target: tuple[str, int],
    delay_seconds: float,
) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(*target)
    except OSError:
        near_writer.close()
        return
    await asyncio.gather(
        _pump(near_reader, far_writer, delay_seconds),
        _pump(far_reader, near_writer, delay_seconds),
    )
    for writer in (near_writer, far_writer):
        with contextlib.suppress(OSError):
            writer.close()


async def main() -> None:
    address, port, target_address, target_port, delay_seconds = sys.argv[1:]

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _serve(reader, writer, (target_address, int(target_port)), float(delay_seconds))

    server = await asyncio.start_server(accepted, address, int(port))
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
