"""Two pages of HTML that load nothing from anywhere: the one to try a model on, and the reference of the endpoints."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.responses import Response

PAGE = Path(__file__).with_name("page.html")
REFERENCE_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .4rem; font-size: .85rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8886; padding-top: 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8883; }
"""


def response(text: str) -> Response:
    return Response(text, media_type="text/html; charset=utf-8", headers={"content-security-policy": policy(text)})


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@cache
def policy(text: str) -> str:
    """Only the scripts and styles that the page itself has may run, and it may talk to this server alone."""

    def sources(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
        return " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"

    return (
        f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def reference(schema: dict[str, Any]) -> str:
    """The OpenAPI schema as a page: each endpoint with its fields, an example and what it may answer."""
    components = schema["components"]["schemas"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        "<link rel=icon href='data:,'>",
        f"<title>{html.escape(schema['info']['title'])}: endpoints</title><style>{REFERENCE_STYLE}</style>",
        f"<h1>{html.escape(schema['info']['title'])} {html.escape(schema['info']['version'])}</h1>",
        f"<p>{html.escape(schema['info']['description'])} For programs: <a href=openapi.json>openapi.json</a>. "
        "To try it: <a href='./'>the page</a>.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {html.escape(path)}</h2>")
            parts.append(f"<p>{html.escape(operation.get('description', ''))}</p>")
            if "requestBody" in operation:
                body = _named(operation["requestBody"], components)
                parts += [_fields(body), *_elements(body, components), *map(_example, body.get("examples", []))]
            answer = _named(operation["responses"]["200"], components)
            if answer:
                parts += ["<p>Answer:</p>", _fields(answer), *_elements(answer, components)]
                parts += map(_example, answer.get("examples", []))
            rows = [(code, one["description"]) for code, one in operation["responses"].items() if code != "200"]
            parts.append(_table(("status", "when"), sorted(rows)))
    return "".join(parts)


def _named(holder: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The schema of a JSON body, or nothing."""
    reference = holder.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return components.get(reference.rpartition("/")[2], {})


def _elements(schema: dict[str, Any], components: dict[str, Any]) -> Iterator[str]:
    """The fields of what the lists among a body's fields hold."""
    for name, field in schema.get("properties", {}).items():
        for one in field.get("anyOf", [field]):
            element = components.get(one.get("items", {}).get("$ref", "").rpartition("/")[2])
            if element:
                yield f"<p>Each of <code>{html.escape(name)}</code>:</p>{_fields(element)}"


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (name, "required" if name in required else json.dumps(field.get("default")), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "default", "meaning"), rows)


def _example(value: Any) -> str:
    return f"<pre>{html.escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"
