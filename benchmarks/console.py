"""The page with 1,000 requests waiting: the first view, and how long until a change is seen.

Through the real server on loopback, and once in Chromium where there is one. Fails above 300 ms and 500 ms.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from benchmarks.client import BenchError
from tests.http.console.bench import LOCAL_ALICE, Page, Visitor, page_at

FIRST_VIEW_MS = 300.0
LIVE_MS = 500.0
_GIVE_UP_S = 10


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__)
    parser.add_argument("--waiting", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(argv)
    figures = anyio.run(measure, options.waiting, options.rounds)
    over = False
    for name, taken in figures.items():
        bound = FIRST_VIEW_MS if "view" in name else LIVE_MS
        over = over or statistics.median(taken) > bound
        print(f"{name:46} median {statistics.median(taken):6.0f} ms   worst {max(taken):6.0f} ms   (<= {bound:.0f})")
    return 1 if over else 0


async def measure(waiting: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds, one a round."""
    with tempfile.TemporaryDirectory() as folder:
        async with page_at(Path(folder)) as page:
            await page.ask_many(waiting)
            async with page.signed_in() as visitor:
                found = {
                    "first view, server": [await timed(lambda: view(visitor)) for _ in range(rounds)],
                    "new request told to an open stream": await told(page, visitor, rounds),
                }
            return {**found, **await in_chromium(page, rounds)}


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return (time.perf_counter() - begun) * 1000


async def view(visitor: Visitor) -> None:
    answer = await visitor.get()
    if answer.status_code != 200 or answer.text.count('class="row"') != 50:
        raise BenchError("the first view does not show fifty requests")


async def told(page: Page, visitor: Visitor, rounds: int) -> list[float]:
    """From the request being made to its count arriving."""
    counts: list[int] = []
    came = anyio.Event()

    async def follow() -> None:
        nonlocal came
        async with visitor.http.stream("GET", f"{page.root}events", timeout=60) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    counts.append(int(json.loads(line[6:])["waiting"]))
                    came.set()
                    came = anyio.Event()

    async def more(than: int) -> None:
        with anyio.fail_after(_GIVE_UP_S):
            while not counts or counts[-1] <= than:
                await came.wait()

    async def one() -> None:
        before = counts[-1]
        await page.ask()
        await more(before)

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await more(0)
        taken = [await timed(one) for _ in range(rounds)]
        group.cancel_scope.cancel()
    return taken


async def in_chromium(page: Page, rounds: int) -> dict[str, list[float]]:
    """The same as a person sees it."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        print("no chromium on PATH: not measured in a browser")
        return {}
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = await browser.new_page()
        await tab.goto(f"{page.url}login/{await page.parts.signin.link(LOCAL_ALICE)}")
        await tab.get_by_role("button", name="Sign in").click()
        await tab.locator(".row").first.wait_for()

        async def seen() -> None:
            name = f"bench_{page.asked}"
            await page.ask(tool=name)
            await tab.get_by_text(name, exact=True).wait_for()

        async def decided() -> None:
            (newest,) = (await page.parts.inbox.page("waiting", page.parts.store.now_ns(), 1))[:1]
            await page.parts.review.decide(newest.id, "deny", LOCAL_ALICE)
            await tab.locator(f'a[href$="{newest.id}"]').wait_for(state="detached")

        found = {
            "first view, Chromium": [await timed(lambda: tab.goto(page.url)) for _ in range(rounds)],
            "new request on the screen": [await timed(seen) for _ in range(rounds)],
            "decided request off the screen": [await timed(decided) for _ in range(rounds)],
        }
        await browser.close()
        return found


if __name__ == "__main__":
    sys.exit(main())
