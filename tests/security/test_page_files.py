"""What the admin's page promises as a whole: of all its routes, and of all its files."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from foundation.clock import ManualClock
from offloader.api.page import PageOptions, page_router
from offloader.api.page_files import DIRECTORY

TEXTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in sorted(DIRECTORY.iterdir())
    if path.suffix in (".html", ".css", ".js", ".svg")
}
OWN_NAMESPACES = ("http://www.w3.org/2000/svg",)
METHODS = ("GET", "POST", "PUT", "DELETE")


class NoAuth:
    """Nobody has a key."""

    async def check_admin_key(self, key: str) -> None:
        raise AssertionError(key)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    [
        *("/", "/page/session", "/page/login", "/page/logout", "/page/api/jobs"),
        *("/page/api/jobs/5f0c3ba1d29e/stop", "/page/api/admin/clients", "/page/app.js", "/page/x"),
    ],
)
async def test_every_route_of_the_page_has_the_policy_and_asks_for_no_basic_key(
    method: str, path: str
) -> None:
    app = FastAPI()
    options = PageOptions(admin_key="k" * 32, show_content=False)
    app.include_router(page_router(app, NoAuth(), options, clock=ManualClock()))
    headers = {"Accept": "text/html", "Authorization": "Basic YWRtaW46eA=="}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://offloader") as http:
        answer = await http.request(method, path, headers=headers)
    assert "www-authenticate" not in answer.headers
    if answer.status_code not in (404, 405):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; frame-ancestors 'none'")
    if method != "GET":
        assert answer.status_code in (403, 404, 405)


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_of_the_page_names_another_site_or_puts_a_secret_into_an_address(name: str) -> None:
    text = TEXTS[name]
    for namespace in OWN_NAMESPACES:
        text = text.replace(namespace, "")
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text) == []
    assert re.findall(r"[?&](?:token|key|session|auth)\w*=", text) == []


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith((".js", ".html"))])
def test_no_script_of_the_page_makes_markup_of_texts(name: str) -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\son\w+="
    )
    assert re.findall(forbidden, TEXTS[name]) == []


def test_there_are_files_to_look_at() -> None:
    assert {"app.js", "index.html"} <= set(TEXTS)
    assert Path(DIRECTORY).is_dir()
