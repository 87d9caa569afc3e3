"""What the tests of running share."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def local(digits_cache: Path) -> Iterator[None]:
    """Ray on this machine with two cores and little memory for objects."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"DCBENCH_CACHE": str(digits_cache)}},
    )
    yield
    ray.shutdown()
