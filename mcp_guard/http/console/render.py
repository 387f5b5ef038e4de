"""Templates to responses. Autoescape is on for every template, and an unknown name is an error."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from mcp_guard.approval.prompt import visible
from mcp_guard.http.console import views
from mcp_guard.http.console.values import brief, said, shown

_KINDS = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("mcp_guard.http.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(shown=shown, brief=brief, plain=visible, said=said, moment=views.moment, person=views.person)
    found.filters.update(became=views.became, sure=views.sure)
    found.globals["left"] = views.left
    return found


def page(template: str, status: int = 200, **values: Any) -> Response:
    """Render a template."""
    return HTMLResponse(_environment().get_template(template).render(**values), status_code=status)


def static(name: str) -> Response | None:
    """One of the few files that the page needs."""
    kind = _KINDS.get(name)
    return None if kind is None else Response(_bytes(name), media_type=kind)


@cache
def _bytes(name: str) -> bytes:
    return (files("mcp_guard.http.console") / "static" / name).read_bytes()
