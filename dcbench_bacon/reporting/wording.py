"""The words of the tables: titles, headings, marks and footnotes."""

from collections.abc import Callable, Mapping

from dcbench_bacon.plugins import title_of
from dcbench_bacon.reporting.literature.published import KNOWN

MARKS = {"best_test": "†", "best_val": "‡"}
NOTES = {
    "best_test": "† Chosen on the test set: optimistic.",
    "best_val": "‡ Pass chosen on a validation split held out of train.",
    "final": "Without a mark: accuracy after the last pass (selection final).",
    "quick": "Preset quick: a reduced recipe, not comparable with published numbers.",
    "demo": "Preset demo: a reduced recipe, not comparable with published numbers.",
    "changed": "Changed: keys of the recipe that --set overrode.",
    "set": "Preset with set: keys of the recipe were overridden with --set.",
    "std": "Accuracy in percent: mean ± sample standard deviation (n - 1 in the "
    "denominator) over n trained networks, all networks and seeds pooled.",
    "difference": "Difference: measured minus published, in percentage points.",
    "unpublished": "No published number exists for these cells.",
    "published": "Published: from the method's own paper or repository, where known; "
    "otherwise the first of dcbench's sources that has the cell.",
    "sets": "Between sets: standard deviation over seeds of the means per seed. "
    "Between networks: mean over seeds of the deviation within a seed (n - 1 both).",
    "quality": "Distances to test images in feature space; (real): of as many random "
    "training images. MMD²: unbiased, Gaussian kernel as wide as the median distance "
    "of real images; around 0, also below it, if nothing tells the images apart. "
    "Fréchet: of fitted Gaussians; larger for fewer images: compare sets of one size.",
    "agreement": "Agreement: share of images whose nearest prompt ('a photo of a ...') "
    "is that of their class.",
    "transfer": "Rows: the set, by its method and the network it was distilled on. "
    "Columns: the network that was trained on it and tested.",
    "regimes": "Regimes: hard, classes (HL); soft, a vector per image that the teacher "
    "makes once (SL); renewed, the teacher's labels of every augmented batch (SL+KD). "
    "Over random: minus random images of the same seeds under the same labels, with a "
    "95 % t interval of the paired differences; a dash: no such record, which dcbench "
    "run --methods random with the same --regime makes. "
    "Labels: what a network learned from; of renewed labels, the teacher's logits of "
    "all batches in half precision. Teacher: in brackets its accuracy on the real "
    "images that it was trained on.",
    "gain": "Over another method: percentage points above as many images of it, with a "
    "95 % bootstrap interval (10,000 resamples of sets, then of networks; with one set "
    "it holds the variation between networks alone).",
    "layout": "Measured: mean ± sample standard deviation (n - 1) over n trained "
    "networks, in percent.",
    "emphasis": "The best measured number of a column is bold, the second underlined.",
    "brackets": "In brackets: published number, and measured minus published in "
    "percentage points (- where they may not be compared); alone, where only the "
    "published number exists.",
    "gain_row": "Gain: the best other method minus this one, in percentage points; of "
    "measured numbers where there are any.",
    "ratio": "Ratio: distilled images as a share of the training images.",
    "scores": "HLR: whole training set minus this set, IOR: this set minus random, "
    "LRS and ARS: label- and augmentation-robust scores of DD-Ranking; fractions. HLR "
    "and LRS are of hard labels; sets with soft labels, or a teacher's, have none.",
    "timing": "Step: the median, with the distance of its quartiles (IQR); phases: the "
    "mean of a step.",
    "references": "A dash: no record of random images (or of the whole training set, "
    "for HLR and LRS; with and without augmentation, for ARS) under the same protocol. "
    "`dcbench run --references` makes them. The whole training set may have a number "
    "of epochs of its own.",
    "augmentations": "Protocols with several augmentations: mean and deviation over "
    "the networks of all of them; `dcbench table --what augmentations` has each.",
    "per_augmentation": "Mean: over augmentations, of the mean accuracy under each, "
    "which follow. Best: the largest of these, so chosen on test. Transfer: mean over "
    "the other networks that were trained on the set.",
    "transfer_published": "No difference for transfer: the source states neither its "
    "networks nor their augmentation.",
    "time_table": "Seconds per step of the stage that makes the images (the median) "
    "and peak memory. On a CPU the memory is that of the process, with PyTorch and the "
    "data set. > 80 GB: out of memory. As published: on the device of the source.",
    "cost": "Size: images and labels as stored; partitioned images as they are, "
    "not decoded. A teacher that labels images during an evaluation is not included. "
    "Updates: steps of all stages of the distillation. Images seen: images that went "
    "through a network in them. Seconds: to distil a set, with experts or features "
    "that other cells share, and to train and test the networks of the row on it. "
    "Means over sets. A dash: not recorded, as for random images and sets from files.",
    "ranks": "Rank: of the mean accuracy among the methods of a case, 1 is best; equal "
    "means share their ranks. A case is a data set with a number of images per class, "
    "a network and a protocol; those with one method do not count. Best: cases in "
    "which no other mean is higher.",
    "paired": "Wins and losses: comparisons with another method in a case whose 95 % "
    "interval of the mean difference does not contain 0; ties: those whose interval "
    "does. Student's t over pairs of sets of one seed; with one pair of sets over its "
    "networks, which leaves out the variation between sets. Not corrected for the "
    "number of comparisons.",
    "arms": "In brackets: difference to the first arm in points; * where the "
    "95 % interval does not contain 0 (Student's t over at least three paired sets of "
    "one seed, or networks of a single set). Not corrected for the number of arms.",
    "untested": "Untested: comparisons with fewer than three pairs.",
}

# Sentences for the obstacles and remarks of ``agreement``; the fields in braces are
# those of the published number.
OBSTACLES = {
    "evaluation": "No difference: published under another evaluation ({title}).",
    "unknown": "No difference: how the published number was evaluated is not known.",
    "network": "No difference: published for {architecture}.",
    "unstated": "No difference: the source does not state the network.",
    "preset": "No difference: measured with a reduced recipe.",
    "settings": "No difference: measured with settings changed by --set.",
    "selection": "No difference: the measured set or pass was chosen on test; the "
    "published one was not, or its source does not state it.",
}
REMARKS = {
    "best_test": "The source chose the best on test; the measured number was not.",
    "not_stated": "The source does not state whether it chose on test.",
    "teachers": "The source has other teachers ({teachers}).",
    "augmentation": "The source evaluates with another augmentation ({augmentation}).",
    "memory": "Published value or deviation not checked against the source.",
}
# Raised letters and the plain letters they stand for; there is no raised q.
LETTERS = dict(
    zip("ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", "abcdefghijklmnoprstuvwxyz", strict=True)
)


HEADINGS = {
    **{"dataset": "Data set", "ipc": "IPC", "method": "Method", "error": "Error"},
    **{"architecture": "Network", "preset": "Preset", "selection": "Selection"},
    **{"protocol": "Protocol", "overrides": "Changed", "regime": "Regime"},
    **{"seed": "Seed", "status": "Status", "stage": "Stage", "steps": "Steps"},
    **{"accuracy_mean": "Mean (%)", "sets": "Sets", "networks": "Networks"},
    **{"std_sets": "Between sets", "std_networks": "Between networks"},
    **{"median_seconds": "Step (s)", "iqr_seconds": "IQR (s)", "n": "n"},
    **{"data_ms": "Data (ms)", "augmentation_ms": "Augmentation (ms)"},
    **{"real_forward_ms": "Real forward (ms)", "synthetic_ms": "Synthetic (ms)"},
    **{"queue_ms": "Queue (ms)", "update_ms": "Update (ms)"},
    **{"other_ms": "Other (ms)", "images_per_second": "Images/s"},
    **{"tflops": "TFLOP/s", "share": "Of a matrix product (%)"},
    **{"peak_gb": "Peak (GB)", "device": "Device", "torch": "torch"},
    **{"set": "Set", "images": "Images", "features": "Features"},
    **{"mmd": "MMD²", "mmd_real": "MMD² (real)"},
    **{"frechet": "Fréchet", "frechet_real": "Fréchet (real)"},
    **{"agreement": "Agreement", "agreement_real": "Agreement (real)"},
    **{"hlr": "HLR", "ior": "IOR", "lrs": "LRS", "ars": "ARS"},
    **{"distilled_on": "Distilled on", "distillation_seconds": "Distil (s)"},
    **{"evaluation_seconds": "Evaluate (s)", "mean_rank": "Mean rank"},
    **{"best": "Best", "cases": "Cases", "wins": "Wins", "ties": "Ties"},
    **{"losses": "Losses", "untested": "Untested"},
}


# Headings of the columns that are flush left; numbers are flush right.
LEFT = frozenset(
    {
        *("Data set", "Method", "Network", "Preset", "Recipe", "Selection"),
        *("Stage", "Status", "Error", "Device", "torch", "Distilled on"),
        *("Regime", "Teacher"),
        *("Changed", "Set", "Features", "Protocol", "Block", "Source", "Evaluation"),
    }
)


def namer(stated: Mapping[str, str]) -> Callable[[str], str]:
    """Return the function that gives the printed name of a method or a data set.

    Args:
        stated: the names that records state, which come before the installed ones.
    """

    def named(name: str) -> str:
        # Data sets of one name with other images end with a fingerprint in brackets.
        base, bracket, fingerprint = name.partition(" (")
        known = stated.get(name) or title(name)
        if known != name or not bracket:
            return known
        return f"{stated.get(base) or title(base)} ({fingerprint}"

    return named


def title(name: str) -> str:
    """Return the printed name of a data set or a method, also of a plug-in.

    It is that of the installed module, or of the published numbers for a name that
    dcbench has no module for.
    """
    return title_of(name) or KNOWN.unregistered.titles.get(name) or name
