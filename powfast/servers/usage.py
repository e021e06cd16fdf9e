"""What an answer of a model server that speaks OpenAI's protocol, or one like it, is charged for.

The price follows tokens: an answer counts as one query for each `tokens_per_query` tokens begun, of
prompt and completion together, and each of them is an ordinary one (evidence 1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from powfast.http import Exchange

TOKENS_PER_QUERY = 256
BYTES_PER_TOKEN = 4
"""Of text, where a server does not say how many tokens it was."""

# In JSON every quote inside of a text is escaped: what the model wrote cannot pass for a member.
_COUNTS = re.compile(
    rb'"(?:(prompt_tokens|input_tokens|tokens_evaluated|prompt_eval_count)'
    rb'|(?:completion_tokens|output_tokens|tokens_predicted|eval_count))"\s*:\s*(\d{1,12})\b'
)
_LIMIT = re.compile(
    rb'"(?:max_tokens|max_completion_tokens|max_output_tokens|max_new_tokens|n_predict'
    rb'|num_predict)"\s*:\s*(\d{1,9})\b'
)
_UNSTATED = 1024
"""Tokens that a completion is expected to have whose request sets no limit."""
_LONGEST = 1 << 17
_ASKS_FOR_NOTHING_NEW = ("GET", "HEAD", "OPTIONS", "DELETE")


def tokens_of(exchange: Exchange) -> tuple[int, int] | None:
    """Return how many tokens prompt and completion had, as the answer says; `None` if it does not.

    That is `usage` of OpenAI's chat, completions, responses and embeddings, whole or streamed, and
    of Anthropic's messages; llama.cpp's and Ollama's counts of their own. In a stream the largest
    counts, for they grow.
    """
    prompt = completion = -1
    for match in _COUNTS.finditer(exchange.response):
        if match[1]:
            prompt = max(prompt, int(match[2]))
        else:
            completion = max(completion, int(match[2]))
    return None if prompt < 0 and completion < 0 else (max(prompt, 0), max(completion, 0))


def expected(tokens_per_query: int = TOKENS_PER_QUERY) -> Callable[[Exchange], int]:
    """Return what says, before it runs, how many queries a request may count as.

    That is by the size of its prompt, and the limit that it sets its completion. What is asked for
    ahead and not used stays as credit.
    """

    def queries(exchange: Exchange) -> int:
        if exchange.method in _ASKS_FOR_NOTHING_NEW:
            return 1
        body = exchange.request
        writes = b'"messages"' in body or b'"prompt"' in body
        written = max(map(int, _LIMIT.findall(body)), default=_UNSTATED if writes else 0)
        tokens = len(body) // BYTES_PER_TOKEN + min(written, _LONGEST)
        return max(1, math.ceil(tokens / tokens_per_query))

    return queries


def by_tokens(tokens_per_query: int = TOKENS_PER_QUERY) -> Callable[[Exchange], list[float]]:
    """Return the evidence function that charges one ordinary query for so many tokens.

    A failure costs nothing, nor does what only reads, unless it says that tokens were used. Of an
    answer that does not say how many, four bytes of request and answer count as one token; of one
    in events (a stream without usage) each event counts as one token at least.
    """

    def evidence(exchange: Exchange) -> list[float]:
        if exchange.status >= 400:
            return []
        counted = tokens_of(exchange)
        if counted is None and exchange.method in _ASKS_FOR_NOTHING_NEW:
            return []
        tokens = _estimated(exchange) if counted is None else sum(counted)
        return [1.0] * max(1, math.ceil(tokens / tokens_per_query))

    return evidence


def _estimated(exchange: Exchange) -> int:
    size = len(exchange.request) + len(exchange.response)
    return max(size // BYTES_PER_TOKEN, exchange.response.count(b"data:"))
