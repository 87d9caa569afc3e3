"""Warnings about what makes an evaluation differ from that of a set's authors."""

import logging
import math
from pathlib import Path

from dcbench_bacon.data.synthetic import SyntheticSet
from dcbench_bacon.protocol import Protocol

logger = logging.getLogger(__name__)


def caution(path: Path | str, synthetic: SyntheticSet, protocol: Protocol) -> None:
    """Warn of whatever makes an evaluation differ from that of the set's authors.

    Args:
        path: the file of the set.
        synthetic: the set.
        protocol: the protocol of the evaluation.
    """
    if (synthetic.provenance.get("zca") or {}).get("assumed"):
        logger.warning(
            "%s: its images are ZCA-whitened, and the test images are whitened in "
            "MTT's way; if the set was whitened in another way, as by KIP, its "
            "accuracy is too low; if it is not whitened, state that with --no-zca",
            path,
        )
    learned = synthetic.provenance.get("learning_rate")
    tried = protocol.learning_rates or (protocol.learning_rate,)
    used = protocol.use_learned_rate and not protocol.learning_rates
    if learned is None or used or any(_close(learned, rate) for rate in tried):
        return
    logger.warning(
        "%s: a learning rate of %.6g was learned with the images, but the protocol "
        "trains with %s; to use the learned one: --set protocol.use_learned_rate=true",
        path,
        learned,
        " or ".join(f"{rate:g}" for rate in tried),
    )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)
