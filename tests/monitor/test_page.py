"""The page in a real browser, of a real run: it follows, a killed rank turns red, nothing leaves the machine."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from medscroll.monitor.follow import Follower
from medscroll.monitor.page_html import page
from medscroll.monitor.run_reader import RunReader
from medscroll.monitor.snapshot import snapshot
from medscroll.monitor.web import DEFAULT_PORT, listen, make_server
from tests import launch
from tests.engine.conftest import prepared, training
from tests.monitor.browser import Browser, missing
from tests.monitor.simulated_run import Simulated

assert prepared  # the fixture of the engine's tests
needs_browser = pytest.mark.skipif(bool(missing()), reason=f"no browser here: {missing()} (Debian: chromium-driver)")
PICTURES = os.environ.get("MEDSCROLL_PICTURES")  # a folder: screenshots are left there to be looked at
EVIL = "<img src=x onerror=alert(1)></script><script>window.evil = 1</script>"


@contextlib.contextmanager
def served(run: Path, *flags: str) -> Iterator[str]:
    """`medscroll watch RUN --web` as a process of its own; its address."""
    words = [sys.executable, "-m", "medscroll", "watch", str(run), "--web", "--port", "0", *flags]
    job = subprocess.Popen(words, env=launch.environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert job.stdout is not None
        line = job.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield found.group()
    finally:
        job.send_signal(signal.SIGINT)
        job.wait(timeout=20)


def pictures(browser: Browser, name: str) -> None:
    """Desktop and phone, light and dark; the page is never wider than the screen."""
    for width in (1400, 390):
        for dark in (False, True):
            browser.look(width, dark)
            assert browser.run("return document.documentElement.scrollWidth") <= width
            if PICTURES:
                browser.picture(Path(PICTURES, f"{name}-{width}-{'dark' if dark else 'light'}.png"))
    browser.look(1400, False)


@needs_browser
@pytest.mark.slow
@pytest.mark.distributed
def test_a_real_run_is_followed_and_a_killed_rank_turns_red(prepared: Path, tmp_path: Path) -> None:
    import psutil

    run = tmp_path / "run"
    arguments = training(prepared, run, max_steps=4000, logging_steps=1, monitor_window_every=20, eval_strategy="no")
    with (tmp_path / "log").open("w") as output:
        job = subprocess.Popen(
            launch.command(2, arguments), env=launch.environment(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not list(run.glob("events/rank-00001.jsonl")):
            assert job.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with served(run) as url, Browser() as browser:
            browser.open(url)
            step = "return parseInt((document.getElementById('tile-step')||{}).textContent?.replaceAll(',', '') || '0')"
            first = browser.wait(step, 60, lambda value: value > 3)
            curve = "return document.querySelectorAll('section svg path').length"
            browser.wait(curve, 30, lambda count: count > 3)
            later = browser.wait(step, 30, lambda value: value > first + 3)
            browser.wait("return document.querySelector('.banner').classList.contains('running')")
            browser.reload()
            assert browser.run(step) >= later  # the snapshot stands in the page itself
            assert browser.run("return document.querySelectorAll('tr[data-rank]').length") == 2
            pictures(browser, "real")
            victim = next(
                process
                for process in psutil.Process(job.pid).children(recursive=True)
                if process.environ().get("RANK") == "1"
            )
            os.kill(job.pid, signal.SIGSTOP)  # the launcher would end the others at once
            victim.kill()
            red = "return document.querySelector('tr[data-rank=\"1\"]').className"
            assert browser.wait(red, 60, lambda value: value in ("dead", "crashed"))
            colour = "return getComputedStyle(document.querySelector('tr[data-rank=\"1\"] td')).backgroundColor"
            assert browser.run(colour) != browser.run("return getComputedStyle(document.body).backgroundColor")
            pictures(browser, "killed")
            browser.wait("return document.querySelector('.banner').className", 30, lambda name: "running" not in name)
            asked = [
                address for address in browser.requests() if not address.startswith(("data:", "chrome:", "about:"))
            ]
            assert len(asked) > 5
            assert {urlsplit(address).hostname for address in asked} == {"127.0.0.1"}
            assert browser.complaints() == []
    finally:
        os.kill(job.pid, signal.SIGCONT)
        launch._kill_session(job)


@needs_browser
def test_a_large_run_in_both_languages_and_every_screen(tmp_path: Path) -> None:  # noqa: PLR0915
    """What a run says is shown as text, whatever it is; a broken connection is said and mended."""
    alert = {"type": "alert", "kind": "loss_spike", "severity": "critical", "step": 50, "rank": 3, "host": "node-00"}
    run = Simulated(
        ranks=16, nodes=4, steps=120, slow_rank=5, silent={7: 300.0}, extra={3: [{**alert, "message": EVIL}]}
    ).write(tmp_path / "run")
    other = Simulated(ranks=2, nodes=1, steps=60, gpu=False, end={rank: {"status": "finished"} for rank in range(2)})
    other.write(tmp_path / "other")
    follower = Follower([RunReader(run), RunReader(tmp_path / "other")], 0.5)
    server = make_server(follower, "127.0.0.1", 0)
    follower.start()
    import threading

    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Browser() as browser:
            browser.open(server.url)
            browser.wait("return document.querySelectorAll('section').length", until=lambda count: count > 10)
            assert browser.run("return window.evil") is None
            assert browser.run("return document.querySelectorAll('img').length") == 0
            assert EVIL in browser.run("return document.querySelector('td.wide').textContent")
            assert "rank 7" in browser.run("return document.querySelector('.banner').textContent")
            assert "forward" in browser.run("return document.body.textContent")
            pictures(browser, "simulated")
            browser.run("document.getElementById('language').click()")
            assert browser.run("return document.documentElement.lang") == "zh-CN"
            assert "已失联" in browser.run("return document.body.textContent")
            pictures(browser, "chinese")
            browser.run("document.querySelectorAll('#runs button')[1].click()")
            assert "已完成" in browser.run("return document.getElementById('state').textContent")
            browser.reload()
            assert browser.run("return document.documentElement.lang") == "zh-CN"
            assert "已完成" in browser.run("return document.getElementById('state').textContent")
            pictures(browser, "cpu")
            if PICTURES:
                printed = browser.devtools("Page.printToPDF", printBackground=True)
                import base64

                Path(PICTURES, "print.pdf").write_bytes(base64.b64decode(printed["data"]))
            assert browser.complaints() == []
            lost = "return document.getElementById('connection').className"
            network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
            browser.devtools("Network.emulateNetworkConditions", offline=True, **network)
            browser.wait(lost, 20, lambda name: name == "lost")
            browser.devtools("Network.emulateNetworkConditions", offline=False, **network)
            browser.wait(lost, 20, lambda name: name == "")
            path = tmp_path / "page.html"
            path.write_text(page(snapshot(follower.runs), live=False), encoding="utf-8")
            browser.requests()
            browser.complaints()
            browser.open(path.as_uri())
            assert browser.run("return document.querySelectorAll('section').length") > 10
            assert [a for a in browser.requests() if not a.startswith(("data:", "about:", "chrome:"))] == [
                path.as_uri()
            ]
            assert browser.complaints() == []
    finally:
        server.shutdown()
        server.server_close()
        follower.stop()


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower([RunReader(Simulated(ranks=2, nodes=1, steps=20).write(tmp_path / "run"))])


def test_the_server_only_reads_and_only_answers_whom_it_should(follower: Follower) -> None:
    import threading

    server = make_server(follower, "127.0.0.1", 0)
    guarded = listen("127.0.0.1", 0, server.routes, "secret", "--port")
    for one in (server, guarded):
        threading.Thread(target=one.serve_forever, daemon=True).start()
    try:
        status, headers, body = get(server.url)
        assert status == 200
        assert b'id="data"' in body
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert get(server.url, method)[0] == 501
        assert get(server.url + "../../etc/passwd")[0] == 404
        assert get(server.url, Host="evil.example:80")[0] == 403
        assert get(server.url, Host="localhost:1")[0] == 200
        assert get(server.url + "data")[0] == 200
        assert get(server.url + "data?after=1")[0] == 204
        assert get(server.url + "data?after=x%00")[0] == 200
        bare = guarded.url.partition("?")[0]
        assert get(bare)[0] == 401
        assert get(bare + "?token=wrong")[0] == 401
        assert get(guarded.url)[0] == 200
        assert get(bare, Authorization="Bearer secret", Host="anything")[0] == 200
    finally:
        for one in (server, guarded):
            one.shutdown()
            one.server_close()


def test_a_token_is_made_up_where_others_can_ask(follower: Follower) -> None:
    server = make_server(follower, "0.0.0.0", 0)
    server.server_close()
    assert server.token is not None
    assert len(server.token) >= 20
    assert server.url.endswith(f"?token={server.token}")


def test_a_port_in_use_is_an_error_where_it_was_asked_for_and_else_the_next_is_taken(follower: Follower) -> None:
    from medscroll.errors import ConfigError

    first = make_server(follower, "127.0.0.1", 0)
    with pytest.raises(ConfigError, match="in use"):
        make_server(follower, "127.0.0.1", first.server_port)
    with pytest.raises(ConfigError, match="cannot listen"):
        make_server(follower, "192.0.2.7", 0)
    second, third = (make_server(follower, "127.0.0.1", None) for _ in range(2))
    assert DEFAULT_PORT <= second.server_port < third.server_port
    for server in (first, second, third):
        server.server_close()


def test_the_page_cannot_be_left_by_what_a_run_says(tmp_path: Path) -> None:
    alert = {"type": "alert", "kind": "x", "severity": "warning", "step": 1, "rank": 0, "host": "h", "message": EVIL}
    run = Simulated(ranks=1, nodes=1, steps=3, extra={0: [alert]}).write(tmp_path / "run")
    reader = RunReader(run)
    reader.finish()
    text = page(snapshot([reader]), live=False)
    assert "onerror" in text
    assert "<img" not in text
    assert text.count("</script>") == 2
    assert "http://www.w3.org/2000/svg" in text
    outside = [found for found in re.findall(r"https?://[\w./]+", text) if "www.w3.org" not in found]
    assert not outside
