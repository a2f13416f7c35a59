"""The pages: how large they are, how soon the first chart is there, and how far behind a live page is.

    python benchmarks/pages.py report --windows 2000 --shards 50 --keys 100
    python benchmarks/pages.py watch --windows 500 --rate 5 --seconds 1200

- report: a stream's folder of so many windows, shards and keys (one window's real summaries, claimed again and again
  with other times; in some of them a shard is missing, and there are gaps). Seconds and megabytes of `report`, then the
  page in headless Chromium, where that is installed (CHROMIUM names it): seconds from its start to the first chart and
  to the last, requests to elsewhere, errors on the console, and how wide the page is at 360, 800 and 1,600 pixels.
- watch: windows are claimed while `watch` runs. Seconds from a claim until `/metrics` and `/contents.json` have it (the
  median and the most), memory at the start and at the end, and the CPU of a core when nothing comes.
"""
from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

import numpy as np

from beam_coresets.coordinator.decision import decide
from beam_coresets.parameters.plan import Plan
from beam_coresets.points.block import blocks_of
from beam_coresets.results.summary import Summary, summarize, summary_of_keys
from beam_coresets.shards.merge_reduce import shard_reports
from beam_coresets.streaming.windows import Window
from beam_coresets.transforms.writing.claims import Claims

START, LENGTH = 1795219200.0, 60.0  # of the first window, and of each, in seconds
SOME = 4  # different summaries of each key


def answers(shards: int, keys: int) -> list[list[Summary]]:
    """Of each of some windows, in which now and then a shard is missing, a summary for each key."""
    plan = Plan(k=5, shards=shards, replication=2, coreset_size=40, buckets=64)
    found = []
    for i in range(SOME):
        random = np.random.default_rng(i)
        window = []
        for key in range(keys):
            centers = random.normal(size=(5, 4)) * 5 + key
            points = centers[random.integers(0, 5, 600)] + random.normal(size=(600, 4))
            gone = {7} if i == SOME - 1 else set()
            reports = [r for r in shard_reports(blocks_of(points, rows=200), plan.merge_reduce) if r.shard not in gone]
            question = dataclasses.replace(plan.question, quick=True, columns=("speed", "load", "heat", "noise"))
            place = Window(START, START + LENGTH, f"sensor {key}" if keys > 1 else "", 1)
            window.append(summarize(decide(reports, plan.policy), question, place, reason="all", decided_at=START))
        found.append(window)
    return found


def publish(claims: Claims, number: int, summaries: list[list[Summary]]) -> None:
    """Claims the window of this number."""
    start = START + number * LENGTH
    those = summaries[SOME - 1 if number % 25 < 3 else number % (SOME - 1)]
    moved = [_at(each, start, number) for each in those]
    whole = Window(start, start + LENGTH, "", 1)
    assert claims.publish(moved[0] if len(moved) == 1 else summary_of_keys(whole, moved))


def _at(summary: Summary, start: float, number: int) -> Summary:
    (answer,) = summary.answers
    window = dataclasses.replace(answer.window, start=start, end=start + LENGTH)
    wave = 1 + 0.2 * np.sin(number / 40)
    row = {**answer.row, "decided_at": start + LENGTH + 1 + number % 3}
    row |= {name: answer.row[name] * wave for name in ("cost", "cost_low", "cost_high")}
    row |= {"moved": 0.01 * wave, "moved_low": 0.0, "moved_high": 0.03 * wave, "drifted": number % 200 == 0}
    return Summary(window, (dataclasses.replace(answer, window=window, row=row),))


def report(windows: int, shards: int, keys: int) -> None:
    summaries = answers(shards, keys)
    with tempfile.TemporaryDirectory() as temporary:
        folder, path = pathlib.Path(temporary) / "out", pathlib.Path(temporary) / "report.html"
        claims = Claims(str(folder), "parquet")
        for number in range(windows):
            if number % 500 < 490:  # gaps
                publish(claims, number, summaries)
        began = time.perf_counter()
        command = [sys.executable, "-m", "beam_coresets", "report", str(folder), "--output", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"report: {time.perf_counter() - began:.1f} s, {path.stat().st_size / 1e6:.2f} MB "
              f"({windows:,} windows, {shards} shards, {keys} keys)")  # fmt: skip
        browse(path)


def browse(path: pathlib.Path) -> None:
    """The page in Chromium."""
    from playwright.sync_api import sync_playwright

    executable = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for width in (360, 800, 1600):
            page = browser.new_page(viewport={"width": width, "height": 900})
            said: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            began = time.perf_counter()
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_selector("#chart-points canvas, #chart-cost svg", timeout=60_000)
            first = time.perf_counter() - began
            page.wait_for_selector("body[data-drawn]", state="attached", timeout=60_000)
            last = time.perf_counter() - began
            wide = page.evaluate("document.documentElement.scrollWidth")
            elsewhere = [url for url in asked if url != path.as_uri()]
            print(f"{width} px: first chart {first:.2f} s, all {last:.2f} s, page {wide} px wide, "
                  f"{len(elsewhere)} requests elsewhere, {len(said)} lines on the console")  # fmt: skip
            page.close()
        browser.close()


def watch(windows: int, rate: float, seconds: float) -> None:
    summaries = answers(8, 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "out"
        command = [sys.executable, "-m", "beam_coresets", "watch", str(folder), "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = re.search(r"http://\S+/", server.stdout.readline())
            assert address is not None
            _watch(Claims(str(folder), "parquet"), summaries, address[0], server.pid, windows, rate, seconds)
        finally:
            server.terminate()
            server.wait(20)


def _watch(
    claims: Claims, summaries: list[list[Summary]], address: str, pid: int, windows: int, rate: float, seconds: float
) -> None:
    behind: dict[str, list[float]] = {"metrics": [], "contents": []}
    memory: list[float] = []
    began = time.time()
    for number in range(windows):
        publish(claims, number, summaries)
        claimed, end = time.time(), START + (number + 1) * LENGTH
        if number % 25 == 24:
            for name, seen in (("metrics", _metrics), ("contents", _contents)):
                while seen(address) < end:
                    time.sleep(0.05)
                behind[name].append(time.time() - claimed)
            memory.append(_megabytes(pid))
        time.sleep(max(0.0, began + (number + 1) / rate - time.time()))
    for name, times in behind.items():
        print(f"{name}: {np.median(times):.2f} s behind in the median, {max(times):.2f} s at most")
    print(f"{windows} windows in {time.time() - began:.0f} s; memory {memory[0]:.0f} MB, then {memory[-1]:.0f} MB")
    cpu, at, until = _cpu(pid), time.time(), began + seconds
    while time.time() < until:
        time.sleep(5)
        memory.append(_megabytes(pid))
    idle = time.time() - at
    if idle > 1:
        print(f"idle for {idle:.0f} s: {100 * (_cpu(pid) - cpu) / idle:.1f} % of a core, memory {memory[-1]:.0f} MB")


def _ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def _metrics(address: str) -> float:
    found = re.search(rb"^beam_coresets_window_end_seconds (\S+)", _ask(f"{address}metrics"), re.M)
    return float(found[1]) if found else 0.0


def _contents(address: str) -> float:
    held: dict[str, Any] = json.loads(gzip.decompress(_ask(f"{address}contents.json")))
    return max(held["windows"]["end"]) / 1e3


def _megabytes(pid: int) -> float:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return float(found[1]) / 1024 if found else float("nan")


def _cpu(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("report", "watch"))
    parser.add_argument("--windows", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=50)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5.0, help="windows a second")
    parser.add_argument("--seconds", type=float, default=0.0, help="that the live page is looked at for")
    given = parser.parse_args()
    if given.what == "report":
        report(given.windows, given.shards, given.keys)
    else:
        watch(given.windows, given.rate, given.seconds)


if __name__ == "__main__":
    main()
