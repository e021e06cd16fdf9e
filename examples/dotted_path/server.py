"""A server that nobody edits, and that takes middleware by its dotted path, as vLLM does.

python server.py --port 8000 --middleware powfast.servers.environment.PowMiddleware
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

app = FastAPI()


class Message(BaseModel):
    content: Any


class Chat(BaseModel):
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False


@app.get("/health")
async def health() -> str:
    return "healthy"


@app.post("/v1/chat/completions", response_model=None)
async def complete(chat: Chat) -> dict[str, Any] | StreamingResponse:
    print("the model runs", file=sys.stderr, flush=True)
    text = f"You said: {chat.messages[-1].content}"
    if chat.stream:
        return StreamingResponse(pieces(text), media_type="text/event-stream")
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": chat.model,
        "choices": [choice],
    }


def pieces(text: str) -> Iterator[str]:
    for word in text.split():
        yield f"data: {word}\n\n"
    yield "data: [DONE]\n\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--middleware", action="append", default=[])
    arguments = parser.parse_args()
    for path in arguments.middleware:
        module, _, name = path.rpartition(".")
        app.add_middleware(getattr(importlib.import_module(module), name))
    # "on": where the middleware cannot start, nor does the server
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning", lifespan="on")


if __name__ == "__main__":
    main()
