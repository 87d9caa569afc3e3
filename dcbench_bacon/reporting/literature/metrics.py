"""The metrics of published accuracies, and which of them a measurement is beside."""

# The first of these metrics that a source has is compared.
ACCURACIES = ("test_accuracy", "test_accuracy_best_augmentation")
# What DC-BENCH prints of a set that is evaluated under several augmentations.
PER_AUGMENTATION = {
    "mean": "test_accuracy_mean_augmentation",
    "best": "test_accuracy_best_augmentation",
    "transfer": "test_accuracy_transfer",
}
# Metrics that come before the others beside a measurement of a family.
_FIRST = {"dc_bench": (PER_AUGMENTATION["mean"],)}


def metrics_of(family: str) -> tuple[str, ...]:
    """Return the metrics that a mean accuracy under a family is compared with."""
    return _FIRST.get(family, ACCURACIES)
