"""A model server that fails by chance: slow, silent, half an answer, none, an error.

`python failing_model.py PORT`. It answers JSON with the number it was asked about, and says that it
used as many tokens as it was told to.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

FAILURES = ("slow", "silent", "half", "hangs up", "error")
OFTEN = 0.3
SLOW = 0.5
SILENT = 3.0


def said(asked: dict[str, Any]) -> bytes:
    """The answer: events where the request wants them."""
    used = json.dumps({"n": asked["n"], "usage": {"completion_tokens": asked["tokens"]}})
    if not asked["stream"]:
        return _head("application/json", len(used)) + used.encode()
    events = f'data: {{"n": {asked["n"]}}}\n\n' * 3 + f"data: {used}\n\n"
    return _head("text/event-stream", len(events)) + events.encode()


def _head(kind: str, length: int, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n".encode()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            answer = said(json.loads(await reader.readexactly(length)))
            failure = random.choice(FAILURES) if random.random() < OFTEN else ""
            if failure == "hangs up":
                return
            if failure in ("slow", "silent"):
                await asyncio.sleep(SLOW * random.random() if failure == "slow" else SILENT)
            if failure == "half":
                answer = answer[: len(answer) - 20]
            if failure == "error":
                answer = _head("text/plain", 0, "500 Broken")
            writer.write(answer)
            await writer.drain()
            if failure == "half":
                return
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
