"""The proof of ``benchmarks/cluster.py`` at a small size, times left out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "cluster.py"


@pytest.mark.slow
@pytest.mark.parametrize("claim", ["failures", "node", "driver", "two_drivers"])
def test_nothing_is_lost_on_a_cluster(
    claim: str, tmp_path: Path, digits_cache: Path
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    output = tmp_path / "found.json"
    words = ["--cells", "12", "--only", claim, "--output", str(output)]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "DCBENCH_CACHE": str(digits_cache)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = json.loads(output.read_text())
    assert found[claim]["holds"]
