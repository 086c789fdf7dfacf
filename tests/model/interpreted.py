"""Runs programs whose Triton kernels are interpreted on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys


def interpreted(program: str) -> subprocess.CompletedProcess[str]:
    """A program in a Python of its own; Triton reads its variable when it is imported."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
