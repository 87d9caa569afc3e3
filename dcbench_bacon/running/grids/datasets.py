"""The data sets of a run: one at a time in memory, and the fingerprint of each."""

from dcbench_bacon.data import loading, whitening
from dcbench_bacon.data.dataset import Dataset
from dcbench_bacon.errors import DataError
from dcbench_bacon.running.plans.planning import CellJob
from dcbench_bacon.running.run import RunConfig


class Datasets:
    """A cache that keeps the data set in use, and no other, in memory.

    Whitened images serve the cells that follow, until a cell uses the images without
    whitening; they are then freed, so that the peak memory of that cell is its own. A
    data set that could not be loaded is not tried again.
    """

    def __init__(self, config: RunConfig) -> None:
        """Start with no data set in memory."""
        self.config = config
        self.name: str | None = None
        self.loaded: Dataset | None = None
        self.whitened: Dataset | None = None
        self.missing: dict[str, DataError] = {}
        self.fingerprints: dict[str, str] = {}

    def fingerprint(self, name: str) -> str:
        """Return the sha256 of a data set's images, before whitening.

        Raises:
            MissingDataError: the data set is not on disk; nothing is downloaded.
            DataError: the data set is damaged.
        """
        if name not in self.fingerprints:
            if name in self.missing:
                raise self.missing[name]
            known = loading.known_fingerprint(name, self.config.data_root)
            self.fingerprints[name] = known or self[name].raw_fingerprint
        return self.fingerprints[name]

    def __getitem__(self, name: str) -> Dataset:
        """Return the data set on the device.

        Raises:
            DataError: the data set is missing or damaged, or its images have changed
                since the run began.
        """
        if name in self.missing:
            raise self.missing[name]
        if self.name != name or self.loaded is None:
            self.loaded = self.whitened = None  # frees the memory of the last one
            try:
                loaded = loading.load(
                    name,
                    self.config.data_root,
                    self.config.device,
                    download=self.config.download,
                )
            except DataError as error:
                self.missing[name] = error
                raise
            known = self.fingerprints.setdefault(name, loaded.raw_fingerprint)
            if known != loaded.raw_fingerprint:
                raise DataError(
                    f"the images of {name} have changed since this run began; give the "
                    "same command again"
                )
            self.name, self.loaded = name, loaded
        return self.loaded

    def of(self, job: CellJob) -> Dataset:
        """Return the data set of a job, whitened if its recipe asks for that."""
        dataset = self[job.source]
        if not job.resolved.recipe.settings.get("zca"):
            self.whitened = None
            return dataset
        return self.whiten(dataset)

    def whiten(self, dataset: Dataset) -> Dataset:
        """Return the data set in memory, whitened."""
        if dataset is not self.loaded:
            return whitening.whiten(dataset)
        if self.whitened is None:
            self.whitened = whitening.whiten(dataset)
        return self.whitened
