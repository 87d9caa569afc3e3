"""Fair evaluation: train fresh networks on a set, test them on real images.

The protocol ``dc`` is the one that most papers use (``evaluate_synset`` of
VICO-UoE/DatasetCondensation). It trains by SGD; after half of the epochs the learning
rate falls to a tenth and the optimiser starts anew, so that its momentum is lost. Other
protocols differ in the fields of ``protocol.Protocol``. The accuracy is measured after
the last epoch unless the protocol selects otherwise.
"""

from collections.abc import Sequence

import msgspec

from dcbench_bacon.augmentation import policies
from dcbench_bacon.contract import Stages
from dcbench_bacon.errors import DivergedError, UsageError
from dcbench_bacon.networks.compilation import compile_network, forward_flops
from dcbench_bacon.runtime.compute.memory import networks_per_call
from dcbench_bacon.schema import Evaluation
from dcbench_bacon.training.on_synthetic import SetTrainer
from dcbench_bacon.training.on_synthetic_stack import SetTrainerStack
from dcbench_bacon.training.task import Task, enlarge


def evaluate(
    clock: Stages, task: Task, prefix: str = "evaluate", *, together: bool | None = None
) -> list[Evaluation]:
    """Train and test every network of the protocol.

    Args:
        clock: supplies random streams, checkpoints and progress.
        task: the set, the real images and the protocol.
        prefix: begins the names of the stages. There is one stage for the networks of
            an architecture and an augmentation that train together, or one for each
            network.
        together: whether the networks of an architecture train in one pass, with the
            same numbers except for rounding. By default they do on a GPU. Networks
            with batch statistics are always trained one by one.

    Raises:
        UsageError: the task lacks something that its protocol needs.
        DivergedError: a loss has diverged.
    """
    _check(task)
    task = task._replace(synthetic=task.synthetic.decode().to(clock.device))
    together = clock.device.type == "cuda" if together is None else together
    task = _enlarged(task)
    evaluations = []
    for architecture in task.protocol.architectures:
        protocols = task.protocol.of(architecture).under_each
        for protocol in protocols:
            stage, several = f"{prefix}/{architecture}", len(protocols) > 1
            name = protocol.augmentation or "none" if several else None
            run = _tuned if protocol.learning_rates else _networks
            evaluations += [
                msgspec.structs.replace(evaluation, augmentation=name)
                for evaluation in run(
                    clock,
                    task._replace(protocol=protocol),
                    architecture,
                    f"{stage}/{name}" if several else stage,
                    together,
                )
            ]
    return evaluations


def _enlarged(task: Task) -> Task:
    """Return the task with test images of the size that its protocol asks for."""
    side = task.protocol.test_size
    if not side:
        return task
    held_out = task.validation and enlarge(task.validation, side)
    return task._replace(test=enlarge(task.test, side), validation=held_out)


def _check(task: Task) -> None:
    """Make sure that a task has what its protocol asks for."""
    protocol = task.protocol
    if protocol.held_out != (task.validation is not None):
        raise UsageError(
            "selection best_val or learning_rates go with a validation split, and "
            "only they"
        )
    if protocol.labels != "own":
        raise UsageError(
            f"protocol.labels={protocol.labels}: dcbench run and dcbench evaluate "
            "label sets in this way, with --regime; leave it out here"
        )
    whitened = bool(task.synthetic.provenance.get("zca"))
    for architecture in protocol.architectures:
        for single in protocol.of(architecture).under_each:
            policies.check_whitened(single.augmentation, whitened)
    if len(task.teachers) != len(protocol.teachers):
        raise UsageError(
            f"protocol {protocol.name!r} learns from the logits of "
            f"{', '.join(protocol.teachers) or 'no teacher'}, but "
            f"{len(task.teachers)} teachers were given; choose another --protocol, or "
            "--set protocol.teachers=[] for the labels stored in the set"
        )


def _tuned(
    clock: Stages, task: Task, architecture: str, stage: str, together: bool
) -> list[Evaluation]:
    """Train networks at every learning rate; return those best on validation.

    A learning rate at which a loss diverges is left out.
    """
    best: list[Evaluation] = []
    problems = []
    for rate in task.protocol.learning_rates:
        candidate = msgspec.structs.replace(
            task.protocol, learning_rate=rate, learning_rates=()
        )
        where = f"{stage}@{rate:g}"
        try:
            evaluations = _networks(
                clock, task._replace(protocol=candidate), architecture, where, together
            )
        except DivergedError as error:
            problems.append(error)
            continue
        if not best or _validation(evaluations) > _validation(best):
            best = [msgspec.structs.replace(e, learning_rate=rate) for e in evaluations]
    if not best:
        raise problems[0]
    return best


def _validation(evaluations: Sequence[Evaluation]) -> float:
    """Return the mean accuracy on the validation split."""
    return sum(evaluation.validation or 0.0 for evaluation in evaluations) / len(
        evaluations
    )


def _networks(
    clock: Stages, task: Task, architecture: str, stage: str, together: bool
) -> list[Evaluation]:
    """Train and test all networks of an architecture."""
    trainers = [
        SetTrainer(clock, task, architecture, f"{stage}/{trial}")
        for trial in range(task.protocol.networks)
    ]
    if together and trainers[0].stackable:
        return _together(clock, task, stage, trainers)
    return [_alone(clock, task, trainer) for trainer in trainers]


def _alone(clock: Stages, task: Task, trainer: "SetTrainer") -> Evaluation:
    """Train and test one network in a stage of its own."""
    images = task.protocol.networks * trainer.passes
    compile_network(clock, trainer.network, task.info, images)
    for epoch in clock.steps(trainer.stream, task.protocol.epochs, state=trainer):
        trainer.epoch(epoch)
    return trainer.evaluation(clock.timings[trainer.stream].seconds)


def _together(
    clock: Stages, task: Task, stage: str, trainers: Sequence["SetTrainer"]
) -> list[Evaluation]:
    """Train as many networks at a time as fit into memory, and test them."""
    batch = min(task.protocol.batch_size, len(trainers[0].images))
    network = trainers[0].network
    fit = networks_per_call(
        clock.device,
        task.info.size,
        batch,
        network.memory_demand,
        network.parameter_count,
    )
    evaluations = []
    for start in range(0, len(trainers), fit):
        stack = SetTrainerStack(trainers[start : start + fit])
        name = f"{stage}/{start}-{start + len(stack.trainers) - 1}"
        flops = forward_flops(trainers[0].network, task.info) * trainers[0].passes
        stack.gradients.compile(clock, flops * len(trainers))
        for epoch in clock.steps(name, task.protocol.epochs, state=stack):
            stack.epoch(epoch)
        seconds = clock.timings[name].seconds / len(stack.trainers)
        evaluations += [trainer.evaluation(seconds) for trainer in stack.trainers]
    return evaluations
