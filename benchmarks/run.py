"""Measure all targets in one run, in turn (A B C, A B C, …), and print medians and their ratios to the direct one.

Figures of two runs, or of two machines, are not comparable; the ratios within one run are.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TypedDict

from benchmarks.client import BenchError, Client, seconds_to_import
from benchmarks.targets import Target, environment, targets

TEXT = "x" * 64
WARM_UP_CALLS = 50
IN_FLIGHT = 64
Samples = dict[str, dict[str, list[float]]]
"""Metric, then target, then one figure a round."""


class Figure(TypedDict):
    """One metric of one target."""

    median: float
    x_direct: float | None
    x_naive: float | None


class Report(TypedDict):
    """What one run found."""

    python: str
    rounds: int
    calls: int
    metrics: dict[str, dict[str, Figure]]


METRICS = {
    "echo_p50_us": "echo, one at a time, p50 µs",
    "echo_p99_us": "echo, one at a time, p99 µs",
    "echo_rate": f"echo, {IN_FLIGHT} in flight, calls/s",
    "initialize_ms": "start to answer of initialize, ms",
    "tools_list_ms": "start to first tools/list with the tool, ms",
}


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=500, help="calls of each target in each round")
    parser.add_argument("--only", nargs="+", metavar="TARGET", help="direct, guard, naive")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="mcp-guard-bench-") as folder:
        chosen = [t for t in targets(Path(folder)) if options.only is None or t.name in options.only]
        try:
            samples = measure(chosen, Path(folder), rounds=options.rounds, calls=options.calls)
        except BenchError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    report = summarise(samples, rounds=options.rounds, calls=options.calls)
    print(table(report, [target.name for target in chosen]))
    text = json.dumps(report, indent=2)
    print(text)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")
    return 0


def measure(chosen: list[Target], folder: Path, *, rounds: int, calls: int) -> Samples:
    """Run all rounds.

    Raises:
        BenchError: a target did not do its work.
    """
    samples: Samples = defaultdict(lambda: defaultdict(list))
    for target in chosen:  # once unmeasured: byte code, data folder, file cache
        _round(target, folder, defaultdict(lambda: defaultdict(list)), calls=WARM_UP_CALLS)
    for _ in range(rounds):
        for target in chosen:
            _round(target, folder, samples, calls=calls)
        samples["initialize_ms"]["import mcp"].append(seconds_to_import("mcp", environment()) * 1000)
    return samples


def _round(target: Target, folder: Path, samples: Samples, *, calls: int) -> None:
    with Client(target.command, stderr=folder / f"{target.name}.log", environment=environment()) as client:
        client.open()
        samples["initialize_ms"][target.name].append((time.perf_counter() - client.started) * 1000)
        tool = _echo_tool(client)
        samples["tools_list_ms"][target.name].append((time.perf_counter() - client.started) * 1000)
        for _ in range(WARM_UP_CALLS):
            client.echo(tool, TEXT)
        figures = sorted(_timed(client, tool) for _ in range(calls))
        samples["echo_p50_us"][target.name].append(statistics.median(figures))
        samples["echo_p99_us"][target.name].append(figures[int(len(figures) * 0.99)])
        started = time.perf_counter()
        client.echo_many(tool, TEXT, calls=calls, in_flight=IN_FLIGHT)
        samples["echo_rate"][target.name].append(calls / (time.perf_counter() - started))


def _timed(client: Client, tool: str) -> float:
    started = time.perf_counter()
    client.echo(tool, TEXT)
    return (time.perf_counter() - started) * 1e6


def _echo_tool(client: Client) -> str:
    names = [tool["name"] for tool in client.request("tools/list", {})["tools"]]
    for name in names:
        if name == "echo" or name.endswith("_echo"):
            return str(name)
    raise BenchError(f"no echo tool in the first list: {names}")


def summarise(samples: Samples, *, rounds: int, calls: int) -> Report:
    """Medians over the rounds, and the medians of each round's ratios to the direct target and to the naive one."""
    metrics: dict[str, dict[str, Figure]] = {}
    for metric, by_target in samples.items():
        metrics[metric] = {
            name: {
                "median": round(statistics.median(values), 1),
                "x_direct": _ratio(values, by_target.get("direct")),
                "x_naive": _ratio(values, by_target.get("naive")),
            }
            for name, values in by_target.items()
        }
    return {"python": platform.python_version(), "rounds": rounds, "calls": calls, "metrics": metrics}


def _ratio(values: list[float], base: list[float] | None) -> float | None:
    if base is None:
        return None
    return float(f"{statistics.median(value / other for value, other in zip(values, base, strict=True)):.3g}")


def table(report: Report, names: list[str]) -> str:
    """The figures as text: the median, and in brackets how many times the direct one; then guard against naive."""
    metrics = report["metrics"]
    columns = [*names, "import mcp"]
    width = max(len(title) for title in METRICS.values())
    lines = [" " * width + "".join(f"{name:>20}" for name in columns)]
    for metric, title in METRICS.items():
        cells = [_cell(metrics[metric].get(name)) for name in columns]
        lines.append(f"{title:<{width}}" + "".join(f"{cell:>20}" for cell in cells))
    for metric, title in METRICS.items():
        figure = metrics[metric].get("guard")
        if figure is not None and figure["x_naive"] is not None:
            lines.append(f"guard against naive: {title}: {figure['x_naive']:g}x")
    return "\n".join(lines)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    ratio = figure["x_direct"]
    return f"{figure['median']:.0f}" + ("" if ratio is None else f" [{ratio:g}x]")


if __name__ == "__main__":
    sys.exit(main())
