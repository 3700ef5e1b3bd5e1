"""docs/api-reference.md: every route of the job service, from its OpenAPI document.

python -m tools.api_page > docs/api-reference.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from offloader.api.openapi import openapi_document

_HEAD: Final = """# HTTP API, every route

*This page is written by `python -m tools.api_page`, from the document that `GET /openapi.json` answers;
change `offloader/api/openapi*.py` instead.* With examples by curl, in the order in which one needs them:
[HTTP API](api.md).
"""


def api_page(document: Mapping[str, Any]) -> str:
    """The page, from an OpenAPI 3.1 document."""
    parts = [_HEAD, document["info"]["description"] + "\n"]
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method, operation in item.items():
            if method != "parameters":
                parts.append("\n".join(_operation(path, method, operation, shared)))
    parts.append("## Objects\n")
    for name, schema in document["components"]["schemas"].items():
        if properties := schema.get("properties"):
            rows = _members(properties, schema.get("required", []))
            parts.append(
                f"### {name}\n\n| Member | Type | |\n|---|---|---|\n" + "\n".join(rows) + "\n"
            )
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _operation(
    path: str, method: str, operation: Mapping[str, Any], shared: list[Any]
) -> Iterator[str]:
    yield f"## {method.upper()} {path}\n"
    login = "with authentication" if operation.get("security") else "open to everybody"
    yield f"{operation['summary']}; {login}.\n"
    parameters = [*shared, *operation.get("parameters", [])]
    if parameters:
        yield "| Parameter | In | Type | |\n|---|---|---|---|"
        for one in parameters:
            text = _cell(one.get("description", ""))
            yield f"| `{one['name']}` | {one['in']} | {_type(one.get('schema', {}))} | {text} |"
        yield ""
    if body := operation.get("requestBody"):
        yield "Body:\n"
        yield from _content(body["content"])
    yield "| Status | | |\n|---|---|---|"
    example: list[str] = []
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        kinds = ", ".join(_type(kind.get("schema", {})) for kind in content.values())
        yield f"| {status} | {_cell(answer['description'])} | {kinds} |"
        if status.startswith("2") and not example:
            example = list(_content(content))
    yield ""
    if example:
        yield "Answer:\n"
        yield from example


def _content(content: Mapping[str, Any]) -> Iterator[str]:
    for kind, what in content.items():
        if "example" in what and kind.endswith("json"):
            text = json.dumps(what["example"], indent=2, ensure_ascii=False)
            yield f"```json\n{text}\n```\n"
        elif "example" in what:
            yield f"```text\n{str(what['example']).rstrip()}\n```\n"
        elif "schema" in what:
            yield f"{_type(what['schema'])}\n"


def _members(properties: Mapping[str, Any], required: list[str]) -> Iterator[str]:
    for name, schema in properties.items():
        need = "" if name in required else " (may be missing)"
        yield f"| `{name}` | {_type(schema)}{need} | {_cell(schema.get('description', ''))} |"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    for several in ("oneOf", "anyOf", "allOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(api_page(openapi_document()))
