"""A browser without scripts: opens pages of the guard over real HTTP, reads their forms, and sends them back."""

from __future__ import annotations

import http.client
import http.cookies
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

MOST_REDIRECTS = 5


@dataclass
class Form:
    """A form as it stands on a page, with what a browser would send if nothing was changed."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(given.get("method", "get"), given.get("action", "")))
        elif tag == "input" and self.found and "name" in given:
            unchosen = given.get("type") in {"radio", "checkbox"} and "checked" not in given
            if not unchosen:
                self.found[-1].fields[given["name"]] = given.get("value", "")


@dataclass
class Page:
    """What came back."""

    status: int
    address: str
    text: str

    def forms(self) -> list[Form]:
        parser = _Forms()
        parser.feed(self.text)
        return parser.found

    def form(self, ends_with: str) -> Form:
        """The one form whose address ends like this."""
        (found,) = [form for form in self.forms() if form.action.endswith(ends_with)]
        return found


class Browser:
    """Keeps cookies, follows redirects, and says where its forms come from, as browsers do."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def get(self, address: str) -> Page:
        return self._follow("GET", address, None)

    def send(self, page: Page, form: Form, **changed: str) -> Page:
        """Press the button of a form, with some fields filled in."""
        address, fields = urljoin(page.address, form.action), {**form.fields, **changed}
        if form.method == "post":
            return self._follow("POST", address, fields)
        return self._follow("GET", f"{address}?{urlencode(fields)}", None)

    def _follow(self, method: str, address: str, fields: dict[str, str] | None) -> Page:
        for _ in range(MOST_REDIRECTS):
            status, where, text = self._once(method, address, fields)
            if status != http.client.SEE_OTHER:
                return Page(status, address, text)
            method, address, fields = "GET", urljoin(address, where), None
        raise AssertionError("the page redirects for ever")

    def _once(self, method: str, address: str, fields: dict[str, str] | None) -> tuple[int, str, str]:
        parts = urlsplit(address)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if fields is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers |= {"Origin": f"{parts.scheme}://{parts.netloc}", "Sec-Fetch-Site": "same-origin"}
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, path, urlencode(fields) if fields is not None else None, headers)
            answer = connection.getresponse()
            jar = http.cookies.SimpleCookie(answer.headers.get("Set-Cookie", ""))
            self.cookies |= {name: morsel.value for name, morsel in jar.items()}
            return answer.status, answer.headers.get("Location", ""), answer.read().decode()
        finally:
            connection.close()
