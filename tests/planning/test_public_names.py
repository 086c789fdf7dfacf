"""The names that the package promises are there."""

import subprocess
import sys

from medscroll.planning import Cluster, plan_training


def test_public_names() -> None:
    assert "nodes" in Cluster.__dataclass_fields__
    assert callable(plan_training)


def test_importing_the_package_alone_costs_nothing() -> None:
    check = "import sys, medscroll.planning; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
