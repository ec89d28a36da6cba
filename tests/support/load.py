"""Many distinct questions at once to a server, and whether each got its own answer."""

import asyncio
from typing import Any

import httpx
from toy import ANIMALS, CITIES, NAMES

Row = dict[str, Any]


def questions(count: int) -> list[Row]:
    """No two alike: the number is in the text, and moves every place in it."""
    rows = []
    for number in range(count):
        name, city = NAMES[number % len(NAMES)], CITIES[number % len(CITIES)]
        filler = "It rains there in spring. " * (number % 7 if number % 50 else 60)
        text = (
            f"{'x' * (number % 11)} {number} {filler}{name} was born in {city}. {name} keeps a {ANIMALS[number % 6]}."
        )
        rows.append({"question": f"Where was {name} born?", "context": text, "top_k": 1 + number % 3})
    return rows


def direct_answers(reader: Any, rows: list[Row]) -> list[list[Row]]:
    """The reader's own answers to each, without a server."""
    found: list[list[Row]] = [[] for _ in rows]
    for top_k in {row.get("top_k", 1) for row in rows}:
        own = [place for place, row in enumerate(rows) if row.get("top_k", 1) == top_k]
        given = [{"question": rows[place]["question"], "context": rows[place]["context"]} for place in own]
        answers = reader(given, top_k=top_k, max_answer_len=reader.spans.max_answer_length)
        for place, answer in zip(own, answers, strict=True):
            found[place] = answer if isinstance(answer, list) else [answer]
    return found


def same(expected: list[Row], body: Row) -> bool:
    """Whether a response has these answers. Scores differ in their last bits, as batches do."""
    scores = [abs(one["score"] - other["score"]) < 1e-4 for one, other in zip(body["answers"], expected)]
    return all(scores) and [place(one) for one in body["answers"]] == [place(one) for one in expected]


def place(answer: Row) -> tuple[int, int, str]:
    return answer["start"], answer["end"], answer["answer"]


async def ask_all(url: str, rows: list[Row], at_once: int) -> list[tuple[int, Row]]:
    """Status and body of each, in order; 0 where nobody answered."""
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    timeout = httpx.Timeout(60)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=timeout, trust_env=False) as client:
        places = asyncio.Semaphore(at_once)

        async def ask(row: Row) -> tuple[int, Row]:
            async with places:
                try:
                    found = await client.post("/answer", json=row)
                except httpx.TransportError:
                    return 0, {}
                return found.status_code, found.json()

        return list(await asyncio.gather(*map(ask, rows)))
