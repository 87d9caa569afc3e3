"""A reader of pickles as data: tensors, numbers, texts, lists and dictionaries.

Nothing is unpickled. The standard library's ``pickletools`` splits a pickle into its
opcodes, and ``Machine`` executes those that build data. A pickle calls functions by
name; this reader looks a name up in a table (``torch_pickles.ADMITTED``) of its own
functions, which describe a tensor. It never performs an import or a call that a pickle
asks for, and allocates no tensor before its shape has been checked
(``stored.StoredTensor``). ``torch.load(weights_only=True)`` does not suffice: it
refuses numpy's numbers, which ``res_*.pt`` files contain, and the pickles of
``pickle.dump``, and it allocates before it checks.
"""

import pickletools
from collections.abc import Callable, Mapping
from io import BytesIO
from mmap import mmap
from typing import IO, Any, cast

from dcbench_bacon.exchange.pickles.stored import StoredTensor, of_buffer

MOST_OPERATIONS = 500_000  # a set of 100,000 images with a list of labels needs fewer
# Types of dictionary keys; hashing of other types may recurse without end.
_KEYS = (str, int, float, bool, type(None))

Stream = BytesIO | mmap
Finder = Callable[[Any], Any]
Admitted = Mapping[str, Callable[..., Any]]


class Limits:
    """The cost that one file may still have, pickles within pickles included.

    Args:
        size: size of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        """Start with the full limits."""
        self.operations = MOST_OPERATIONS
        self.copied = size

    def operation(self) -> None:
        """Count one opcode."""
        self.operations -= 1
        if self.operations < 0:
            raise ValueError(f"a pickle of more than {MOST_OPERATIONS} operations")

    def copy(self, count: int) -> None:
        """Count bytes that are made from others; one text may be used many times."""
        self.copied -= count
        if self.copied < 0:
            raise ValueError("a pickle that holds more than its file")


class NumpyType(str):
    """A numpy type such as ``f4`` on the stack."""

    __slots__ = ()


class Unfilled:
    """A numpy array before ``BUILD`` fills it.

    Attributes:
        slots: the slots of the memo that refer to it.
    """

    def __init__(self) -> None:
        """Start with no slot."""
        self.slots: list[int] = []

    @staticmethod
    def filled(state: Any) -> StoredTensor:
        """Return the array of a ``__setstate__``, whose numbers are not copied."""
        _, shape, kind, fortran, content = state
        known = type(content) in (bytes, bytearray)
        if type(kind) is not NumpyType or type(shape) is not tuple or not known:
            raise ValueError("an array in a layout that is not read")
        return of_buffer(kind, shape, content, fortran is True)


class Name(str):
    """The name of a constructor on the stack, which differs from any text."""

    __slots__ = ()


class Machine:
    """A machine that executes the opcodes of one pickle that build plain data.

    Args:
        admitted: the constructors by name; each takes the machine and its arguments.
        limits: limits that all pickles of a file share.
        finder: returns the storage for a persistent id; None refuses such ids.
        nested: whether the pickle lies within another one.
    """

    def __init__(
        self,
        admitted: Admitted,
        limits: Limits,
        finder: Finder | None = None,
        nested: bool = False,
    ) -> None:
        """Start with an empty stack."""
        self.admitted = admitted
        self.limits = limits
        self.finder = finder
        self.nested = nested
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: Stream) -> Any:
        """Return the object of one pickle; leave the stream at the pickle's end.

        Raises:
            ValueError: the pickle is damaged, or asks for more than data.
        """
        # A mapped file has the methods that genops uses: read, readline and tell.
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], stream)):
            self.limits.operation()
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _OPERATIONS:
                _OPERATIONS[name](self, argument)
            elif name not in _IGNORED:
                raise ValueError(f"its pickle uses {name}, which plain data do not")
        raise ValueError("its pickle does not end")

    def marked(self) -> list[Any]:
        """Take all objects above the last mark off the stack."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        """Return the last object on the stack, which must be of a type."""
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"no {kind.__name__} where its pickle fills one")
        return self.stack[-1]

    def take(self, count: int) -> list[Any]:
        """Take the last objects off the stack."""
        if len(self.stack) < count:
            raise ValueError("a pickle that takes more than it has put")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def fill(self, items: list[Any]) -> None:
        """Put keys and values into the dictionary on top of the stack."""
        target = self.top(dict)
        if len(items) % 2 or not all(isinstance(key, _KEYS) for key in items[::2]):
            raise ValueError("a dictionary whose keys are neither texts nor numbers")
        target.update(zip(items[::2], items[1::2], strict=True))

    def find(self, module: Any, name: Any) -> None:
        """Push the constructor for a global name, or refuse it."""
        if type(module) is not str or type(name) is not str:
            # The text of another object might never end.
            raise ValueError("a name that is no text")
        key = f"{module}.{name}"
        if key not in self.admitted:
            raise ValueError(
                f"its pickle asks for {key[:80]}, which is no tensor, number or text; "
                "nothing was run"
            )
        self.stack.append(Name(key))

    def reduce(self) -> None:
        """Call an admitted constructor."""
        function, arguments = self.take(2)
        if type(function) is not Name or type(arguments) is not tuple:
            raise ValueError("its pickle calls what is no constructor of data")
        self.stack.append(self.admitted[function](self, *arguments))

    def instance(self) -> None:
        """Make an instance of an admitted class of options."""
        kind = self.stack[-2]
        if type(kind) is not Name or self.admitted[kind] is not options:
            raise ValueError("its pickle makes an instance of a class")
        self.reduce()

    def build(self) -> None:
        """Fill an array; leave out the attributes of anything else."""
        (state,) = self.take(1)
        target = self.stack[-1]
        if type(target) is Unfilled:
            self.stack[-1] = target.filled(state)
            self.memo.update(dict.fromkeys(target.slots, self.stack[-1]))
        elif type(target) is NumpyType:
            if state[1] not in ("<", "|", "="):
                raise ValueError("an array of big-endian numbers")
        elif type(target) is not dict:  # metadata and options are of no use
            raise ValueError("its pickle sets attributes of what has none")

    def remember(self, slot: int) -> None:
        """Put the last object into the memo."""
        self.memo[slot] = self.stack[-1]
        if type(self.stack[-1]) is Unfilled:
            self.stack[-1].slots.append(slot)

    def persistent(self, key: Any) -> None:
        """Push the storage that lies outside the pickle."""
        if self.finder is None:
            raise ValueError("its pickle refers to something outside it")
        self.stack.append(self.finder(key))


def options(machine: Machine) -> dict[Any, Any]:
    """Return an empty dictionary in the place of options that lie beside the data."""
    return {}


Operation = Callable[[Machine, Any], None]


def _append(machine: Machine, items: list[Any]) -> None:
    machine.top(list).extend(items)


def _dictionary(machine: Machine, items: list[Any]) -> None:
    machine.stack.append({})
    machine.fill(items)


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_IGNORED = {"PROTO", "FRAME"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_OPERATIONS: dict[str, Operation] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.stack.pop() and None,
    "POP_MARK": lambda m, _: m.marked().clear(),
    "APPEND": lambda m, _: _append(m, m.take(1)),
    "APPENDS": lambda m, _: _append(m, m.marked()),
    "LIST": lambda m, _: m.stack.append(m.marked()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.take(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.take(3))),
    "DICT": lambda m, _: _dictionary(m, m.marked()),
    "SETITEM": lambda m, _: m.fill(m.take(2)),
    "SETITEMS": lambda m, _: m.fill(m.marked()),
    "GET": lambda m, slot: m.stack.append(m.memo[slot]),
    "BINGET": lambda m, slot: m.stack.append(m.memo[slot]),
    "LONG_BINGET": lambda m, slot: m.stack.append(m.memo[slot]),
    "PUT": lambda m, slot: m.remember(slot),
    "BINPUT": lambda m, slot: m.remember(slot),
    "LONG_BINPUT": lambda m, slot: m.remember(slot),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "GLOBAL": lambda m, names: m.find(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.find(*m.take(2)),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.instance(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.persistent(*m.take(1)),
}
