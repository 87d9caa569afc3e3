"""Whole data set: networks trained on all real images, the ceiling of every table.

The same protocol as for synthetic sets, its optimiser and augmentation included, but
for the number of passes: a pass over all images is as many updates as hundreds over a
small set. Nothing is distilled and no set is stored.
"""

from dcbench_bacon.evaluate import accuracy
from dcbench_bacon.schema import Evaluation, Protocol
from dcbench_bacon.spec import Reference, Run, Settings, Split
from dcbench_bacon.training import Training, train


class Nothing(Settings, frozen=True, kw_only=True):
    """There is nothing to set; the protocol decides."""


class Whole(Reference):
    """Trains on the train split as it is."""

    Settings = Nothing

    def measure(self, run: Run, test: Split, protocol: Protocol) -> list[Evaluation]:
        """Trains and tests every network of the protocol."""
        return [
            _measure(run, test, protocol, architecture, trial)
            for architecture in protocol.architectures
            for trial in range(protocol.networks)
        ]


def _measure(
    run: Run, test: Split, protocol: Protocol, architecture: str, trial: int
) -> Evaluation:
    """Trains and tests one network."""
    stage = f"whole/{architecture}/{trial}"
    network = train(run, Training.of(protocol, architecture), stage)
    return Evaluation(
        architecture=architecture,
        trial=trial,
        accuracy=accuracy(network, test, run.info),
        epoch=protocol.epochs,
        seconds=run.timings[stage].seconds,
    )
