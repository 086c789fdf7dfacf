"""The page as one self-contained HTML file: style, script and a snapshot inside, nothing loaded from anywhere.

What a run says reaches the page as JSON in a script element that no browser executes, with every `<` escaped, and is
put on the screen as text nodes only. The policy allows exactly this page's own script and style, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

SCRIPTS = ("words.js", "charts.js", "sections.js", "main.js")


@cache
def _part(name: str) -> str:
    return resources.files("medscroll.monitor").joinpath(f"page/{name}").read_text("utf-8")


@cache
def script() -> str:
    """All scripts of the page in order."""
    return "\n".join(_part(name) for name in SCRIPTS)


def policy(connect: bool) -> str:
    """The content security policy of the page; with `connect` it may ask its own server for news."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    rules = [
        "default-src 'none'",
        f"script-src 'sha256-{digest(script())}'",
        "style-src 'unsafe-inline'",  # the charts set colours by style
        "img-src data:",
        "connect-src 'self'" if connect else "connect-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def page(view: dict[str, Any], *, live: bool) -> str:
    """The page that shows `view` (a snapshot, with `serial` and `language` where it is live)."""
    data = json.dumps({**view, "live": live}, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    html = _part("page.html").replace("/*STYLE*/", _part("page.css"))
    if not live:
        meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(connect=False)}">'
        html = html.replace('<meta name="color-scheme"', meta + '\n<meta name="color-scheme"', 1)
    before, _, rest = html.partition("/*DATA*/")
    middle, _, after = rest.partition("/*SCRIPT*/")
    return before + data + middle + script() + after
