"""OpenAI's and Anthropic's SDKs through `powfast serve --upstream` to a server that speaks both."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from processes import started
from service import BASE, token_of
from stores import free_port
from upstreams import proxied

from powfast.challenge import decode
from powfast.clients.httpx import PowAuth
from powfast.clients.httpx2 import PowAuth as PowAuth2
from powfast.http import Exchange
from powfast.servers.usage import by_tokens, tokens_of

HERE = Path(__file__).parent
HELLO: Any = [{"role": "user", "content": "The price follows a bet"}]


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tiny_model:app", "--port", str(port)]
    with started(command, port, environ=dict(os.environ), folder=HERE) as url:
        yield url


@pytest.fixture(scope="module")
def proxy(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    store = f"sqlite:///{folder}/ledger.db"
    with proxied(model, folder, store=store, workers=2, tokens_per_query="10") as url:
        yield url


@pytest.fixture
def client(proxy: str, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    with httpx.Client(auth=PowAuth()) as http_client:
        yield openai.OpenAI(
            base_url=f"{proxy}/v1", api_key=f"sk-{request.node.name}", http_client=http_client
        )


def test_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model="markov", messages=HELLO, max_tokens=40)
    asked = {"model": "markov", "messages": HELLO, "max_tokens": 40}
    bare = httpx.post(f"{model}/v1/chat/completions", json=asked).json()
    assert answer.choices[0].message.content == bare["choices"][0]["message"]["content"]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 45


def test_completions_and_embeddings_and_models(client: openai.OpenAI) -> None:
    written = client.completions.create(model="markov", prompt="honest users", max_tokens=5)
    assert written.usage is not None
    assert written.usage.completion_tokens == 5
    rows = client.embeddings.create(model="markov", input=["a", "bcd"], encoding_format="float")
    assert [row.embedding[0] for row in rows.data] == [1.0, 3.0]
    assert [each.id for each in client.models.list()] == ["markov"]


@pytest.mark.parametrize("usage", [True, False])
def test_streams(client: openai.OpenAI, usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    whole = client.chat.completions.create(model="markov", messages=HELLO, max_tokens=30)
    events = [
        *client.chat.completions.create(
            model="markov", messages=HELLO, max_tokens=30, stream=True, **options
        )
    ]
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert [event.usage.total_tokens for event in events if event.usage] == [35] * usage


@pytest.fixture
def claude(model: str, tmp_path: Path) -> Iterator[anthropic.Anthropic]:
    """Its key comes in a header of its own, which names the account."""
    more = {"account": "header x-api-key", "tokens_per_query": "10"}
    with proxied(model, tmp_path, **more) as url, httpx2.Client(auth=PowAuth2()) as http_client:
        yield anthropic.Anthropic(base_url=url, api_key="sk-ant", http_client=http_client)


def test_messages(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "markov", "messages": HELLO, "max_tokens": 40}
    for _ in range(3):
        answer = claude.messages.create(**asked)
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 40)
    (said,) = answer.content
    events = [*claude.messages.create(**asked, stream=True)]
    pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert len(pieces) == 40
    assert "".join(pieces) == said.text
    with claude.messages.stream(**asked) as stream:
        assert stream.get_final_text() == said.text
        assert stream.get_final_message().usage.output_tokens == 40


def test_messages_are_paid(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "markov", "messages": HELLO, "max_tokens": 95}
    with httpx2.Client() as poor, pytest.raises(anthropic.APIStatusError) as refused:
        claude.with_options(http_client=poor).messages.create(**asked)
    assert refused.value.status_code == 402
    claude.messages.create(**asked)
    auth: Any = claude._client.auth
    assert auth.spent >= 10 * BASE


async def test_messages_asynchronously(model: str, tmp_path: Path) -> None:
    asked: Any = {"model": "markov", "messages": HELLO, "max_tokens": 5}
    with proxied(model, tmp_path, account="header x-api-key") as url:
        async with httpx2.AsyncClient(auth=PowAuth2()) as http_client:
            client = anthropic.AsyncAnthropic(
                base_url=url, api_key="sk-ant", http_client=http_client
            )
            async with client.messages.stream(**asked) as stream:
                assert len([text async for text in stream.text_stream]) == 5


def test_a_stream_passes_on_credit_and_is_charged_at_its_end(proxy: str) -> None:
    asked = {"model": "markov", "messages": HELLO, "max_tokens": 95, "stream": True}
    headers = {"authorization": "Bearer streams"}
    url = f"{proxy}/v1/chat/completions"
    streamed = _paid(httpx.post(url, json=asked, headers=headers))
    assert streamed.status_code == 200
    assert streamed.text.endswith("data: [DONE]\n\n")
    owed = httpx.post(url, json={**asked, "max_tokens": 1}, headers=headers)
    assert owed.status_code == 402
    assert decode(token_of(owed)).work >= 8 * BASE


def test_work_follows_tokens(proxy: str) -> None:
    works = {}
    for length in (5, 95, 995):
        answer = httpx.post(
            f"{proxy}/v1/chat/completions",
            json={"model": "markov", "messages": HELLO, "max_tokens": length},
            headers={"authorization": f"Bearer tokens-{length}"},
        )
        while answer.status_code == 402:  # what is due beyond the price of the moment comes after
            works[length] = works.get(length, 0) + decode(token_of(answer)).work
            answer = _paid(answer)
        assert answer.status_code == 200
    for length, work in works.items():
        owed = BASE * math.ceil((5 + length) / 10)
        assert owed <= work <= 1.13 * (owed + 4 * BASE)  # what was not used is credit


def _paid(asked: httpx.Response) -> httpx.Response:
    from powfast.challenge import solve
    from powfast.http import format_solution

    token = token_of(asked)
    request = asked.request
    headers = {**request.headers, "pow-solution": format_solution(token, solve(token))}
    return httpx.request(request.method, request.url, content=request.content, headers=headers)


def test_the_operators_function_says_more(model: str, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "import math\n"
        "from powfast.servers.usage import tokens_of\n"
        "def price(exchange):\n"
        "    prompt, completion = tokens_of(exchange)\n"
        "    return [1.0] * math.ceil((prompt + 4 * completion) / 10)\n"
    )
    asked = {"model": "markov", "messages": HELLO, "max_tokens": 25}
    with proxied(model, tmp_path, evidence="ours:price") as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked)
        work = 0
        while answer.status_code == 402:
            work += decode(token_of(answer)).work
            answer = _paid(answer)
        assert answer.status_code == 200
    assert 11 * BASE <= work <= 14 * BASE


def test_an_evidence_function_that_is_wrong_lets_nothing_out(model: str, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text("def price(exchange):\n    return [-1.0]\n")
    asked = {"model": "markov", "messages": HELLO}
    with proxied(model, tmp_path, evidence="ours:price") as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked)
    assert answer.status_code in (402, 500)  # paid before it runs, or withheld
    assert "choices" not in answer.text


def said(response: object, status: int = 200, method: str = "POST", request: str = "") -> Exchange:
    body = response if isinstance(response, str) else json.dumps(response)
    return Exchange(method, b"/v1/x", request.encode(), status, body.encode())


STREAM = "".join(
    f"data: {json.dumps(event)}\n\n"
    for event in [
        {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"text": "hi"}},
        {"type": "message_delta", "usage": {"output_tokens": 15}},
    ]
)
DETAILED = {
    "prompt_tokens": 7,
    "completion_tokens": 12,
    "completion_tokens_details": {"reasoning_tokens": 900},
    "total_tokens": 19,
}


@pytest.mark.parametrize(
    ("exchange", "tokens", "queries"),
    [
        (said({"usage": DETAILED}), (7, 12), 2),
        (said({"usage": {"prompt_tokens": 8, "total_tokens": 8}, "data": []}), (8, 0), 1),
        (said({"usage": {"input_tokens": 9, "output_tokens": 2}}), (9, 2), 2),
        (said(STREAM), (25, 15), 4),
        (said({"tokens_predicted": 30, "tokens_evaluated": 5, "content": ""}), (5, 30), 4),
        (said('{"done":false}\n{"prompt_eval_count":4,"eval_count":21}\n'), (4, 21), 3),
        (said({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}), (0, 0), 1),
        # what the model writes is no member, however it looks; what only reads costs nothing
        (said({"text": '"completion_tokens": 5000'}), None, 1),
        (said({"text": '\\"completion_tokens": 5000', "usage": {"prompt_tokens": 1}}), (1, 0), 1),
        (said({"data": [{"id": "m"}]}, method="GET"), None, 0),
        (said({"usage": {"input_tokens": 9, "output_tokens": 2}}, method="GET"), (9, 2), 2),
        (said({"usage": DETAILED}, status=429), (7, 12), 0),
        # nobody says how many: by size, and a stream by its events
        (said("x" * 150, request="y" * 50), None, 5),
        (said("data: x\n\n" * 45), None, 11),
        (said("data:\n" * 45), None, 7),
        (said(""), None, 1),
        (said("[[0.1, 0.2], [0.3"), None, 1),
    ],
)
def test_what_an_answer_is_charged_for(
    exchange: Exchange, tokens: tuple[int, int] | None, queries: int
) -> None:
    assert tokens_of(exchange) == tokens
    assert by_tokens(10)(exchange) == [1.0] * queries
