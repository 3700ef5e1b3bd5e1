"""The OpenAPI document tells of every route, its examples are true, and the routes do as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from offloader.api.openapi import openapi_document

METHODS = {"get", "post", "delete", "put", "patch"}


def operations() -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation)
        for path, item in openapi_document()["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


async def test_it_is_served_and_names_every_route(running) -> None:
    response = await running.http.get("/openapi.json")
    assert response.json() == json.loads(json.dumps(openapi_document()))
    documented = {(method.upper(), path) for method, path, _ in operations()}
    made = running.offloader.app.openapi()["paths"]
    routes = {
        (method.upper(), path)
        for path, item in made.items()
        for method in item
        if not path.startswith("/admin")  # the command line's own
    }
    assert documented == routes


def test_every_example_is_of_the_form_that_it_stands_for() -> None:
    components = openapi_document()["components"]
    checked = 0
    for method, path, operation in operations():
        contents = [answer.get("content", {}) for answer in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for content in contents:
            for media in content.values():
                if "example" not in media:
                    continue
                schema = media["schema"] | {"components": components}
                assert jsonschema_rs.is_valid(schema, media["example"]), (method, path, media)
                checked += 1
    assert checked > 80


async def test_what_the_routes_answer_is_of_the_documented_form(running) -> None:
    components = openapi_document()["components"]
    job_id = await running.create_job()
    await running.check()
    running.backend.exit(job_id, 1, unpublished=True, detail="x")
    await running.check()
    headers = running.basic("plugin")
    for path, schema in (
        ("/version", "Version"),
        ("/readyz", "Status"),
        ("/capacity", "Capacity"),
        ("/jobs", "JobPage"),
        (f"/jobs/{job_id}", "Job"),
        (f"/jobs/{job_id}?details=1", "JobDetails"),
        (f"/jobs/{job_id}/artifacts", "Artifacts"),
    ):
        response = await running.http.get(path, headers=headers)
        reference = {"$ref": f"#/components/schemas/{schema}", "components": components}
        jsonschema_rs.validate(reference, response.json())


@pytest.mark.parametrize(("method", "path", "operation"), operations())
def test_every_operation_is_described_and_its_errors_have_the_one_form(
    method: str, path: str, operation: Any
) -> None:
    assert operation["summary"]
    assert any(status.startswith("2") for status in operation["responses"])
    for status, answer in operation["responses"].items():
        assert answer["description"]
        if status >= "400" and path != "/readyz":
            schema = answer["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Error"}
    open_to_all = {"/version", "/healthz", "/readyz", "/metrics", "/openapi.json"}
    open_to_all |= {"/register", "/login"}
    assert ("security" in operation) == (path not in open_to_all)


def test_the_guide_shows_every_route() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
    for method, path, _ in operations():
        assert f"`{method.upper()} {path.replace('job_id', 'id')}" in guide
