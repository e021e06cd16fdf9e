"""A model server that speaks OpenAI's and Anthropic's protocols, over a Markov chain of the README.

`uvicorn tiny_model:app`. It is a real, if tiny, language model: trained when it starts, sampled
with a seed from the prompt, its tokens counted.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

TEXT = (Path(__file__).resolve().parents[2] / "README.md").read_text()
app = FastAPI()


def tokens(text: str) -> list[str]:
    return re.findall(r"\s*\w+|\s*[^\w\s]", text)


FOLLOWS: dict[str, list[str]] = defaultdict(list)
for before, after in zip(tokens(TEXT), tokens(TEXT)[1:], strict=False):
    FOLLOWS[before.strip()].append(after)


def sampled(prompt: str, length: int) -> list[str]:
    chance = random.Random(prompt)
    word = (tokens(prompt) or ["the"])[-1].strip()
    written = []
    for _ in range(length):
        written.append(chance.choice(FOLLOWS.get(word) or [" the"]))
        word = written[-1].strip()
    return written


def usage(prompt: str, completion: int) -> dict[str, int]:
    asked = len(tokens(prompt))
    return {
        "prompt_tokens": asked,
        "completion_tokens": completion,
        "total_tokens": asked + completion,
    }


@app.post("/v1/chat/completions", response_model=None)
async def chat(request: Request) -> JSONResponse | StreamingResponse:
    asked = await request.json()
    prompt = " ".join(message["content"] for message in asked["messages"])
    written = sampled(prompt, asked.get("max_tokens", 16))
    common = {"id": "chat-1", "created": 0, "model": asked["model"]}
    if asked.get("stream"):
        said = (asked.get("stream_options") or {}).get("include_usage", False)
        events = streamed(common, written, usage(prompt, len(written)) if said else None)
        return StreamingResponse(events, media_type="text/event-stream")
    message = {"role": "assistant", "content": "".join(written)}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    whole = {**common, "object": "chat.completion", "choices": [choice]}
    return JSONResponse({**whole, "usage": usage(prompt, len(written))})


async def streamed(
    common: dict[str, Any], written: list[str], used: dict[str, int] | None
) -> AsyncIterator[str]:
    common = {**common, "object": "chat.completion.chunk"}
    for number, token in enumerate(written):
        delta = {"content": token} | ({} if number else {"role": "assistant"})
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        yield f"data: {json.dumps({**common, 'choices': [choice]})}\n\n"
    if used is not None:
        yield f"data: {json.dumps({**common, 'choices': [], 'usage': used})}\n\n"
    yield "data: [DONE]\n\n"


@app.post("/v1/completions")
async def complete(request: Request) -> dict[str, Any]:
    asked = await request.json()
    written = sampled(asked["prompt"], asked.get("max_tokens", 16))
    choice = {"index": 0, "text": "".join(written), "finish_reason": "length", "logprobs": None}
    common = {"id": "text-1", "object": "text_completion", "created": 0, "model": asked["model"]}
    return {**common, "choices": [choice], "usage": usage(asked["prompt"], len(written))}


@app.post("/v1/embeddings")
async def embed(request: Request) -> dict[str, Any]:
    asked = await request.json()
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    rows = [
        {"object": "embedding", "index": index, "embedding": [float(len(text)), 1.0]}
        for index, text in enumerate(texts)
    ]
    used = usage(" ".join(texts), 0)
    del used["completion_tokens"]
    return {"object": "list", "data": rows, "model": asked["model"], "usage": used}


@app.post("/v1/messages", response_model=None)
async def message(request: Request) -> JSONResponse | StreamingResponse:
    asked = await request.json()
    prompt = " ".join(message["content"] for message in asked["messages"])
    written = sampled(prompt, asked["max_tokens"])
    used = {"input_tokens": len(tokens(prompt)), "output_tokens": len(written)}
    whole = {"id": "msg-1", "type": "message", "role": "assistant", "model": asked["model"]}
    ended = {"stop_reason": "max_tokens", "stop_sequence": None}
    if asked.get("stream"):
        events = messages(whole, written, used, ended)
        return StreamingResponse(events, media_type="text/event-stream")
    content = [{"type": "text", "text": "".join(written)}]
    return JSONResponse({**whole, **ended, "content": content, "usage": used})


async def messages(
    whole: dict[str, Any], written: list[str], used: dict[str, int], ended: dict[str, Any]
) -> AsyncIterator[str]:
    begun = {**whole, "stop_reason": None, "content": [], "usage": {**used, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    for token in written:
        delta = {"type": "text_delta", "text": token}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": len(written)}},
        {"type": "message_stop"},
    ]
    for event in events:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


@app.get("/v1/models")
async def models() -> dict[str, Any]:
    model = {"id": "markov", "object": "model", "created": 0, "owned_by": "tests"}
    return {"object": "list", "data": [model]}
