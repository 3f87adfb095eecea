"""What a pickle would build, found out without building it: its opcodes, how deep it nests, how much memory it takes.

Knows pickle's opcodes and what each can cost. Runs, imports and decodes nothing, and does not know which names are
allowed. Rules: docs/PROTOCOL.md section 6.
"""

from __future__ import annotations

import enum
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onionmpc.errors import RemoteProtocolError

MAX_DEPTH = 100  # hashing nested tuples recurses in C without a limit of its own
MAX_MEMORY_BYTES = 2**30  # for all that one message builds; as much as the longest message has

# What protocol 5 uses for plain data. Not among them: anything that builds an instance, the extension registry,
# persistent ids, out-of-band buffers, DUP and POP, and memo indices of the sender's choice (a large one makes CPython
# allocate).
_CONSTANTS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_LISTS_AND_DICTS = {"EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"}
_TUPLES_AND_SETS = {"EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
_STRUCTURE = {"PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "STACK_GLOBAL", "REDUCE"}
_DATA = _CONSTANTS | _STRINGS | _LISTS_AND_DICTS | _TUPLES_AND_SETS | _STRUCTURE
_INSTANCES = {"NEWOBJ", "NEWOBJ_EX", "BUILD"}

# Upper bounds of what CPython 3.11 to 3.13 allocates, ours for the walk included.
# tests/program/pickles/test_opcodes.py holds them to that. A set has room for five from the start; an instance comes
# with a dict.
_OBJECT_BYTES = 128
_MORE_BYTES = {"EMPTY_SET": 256, "FROZENSET": 256, "EMPTY_DICT": 128, "NEWOBJ": 512, "NEWOBJ_EX": 512, "REDUCE": 256}
_BYTES_PER_ITEM = {
    "ADDITEMS": 128,
    "FROZENSET": 128,
}  # a set that grows has eight places for each item, and its old ones
# One character beyond the BMP makes four bytes of each other one; digits of integers are 30 bits in 32.
_BYTES_PER_BYTE = {"SHORT_BINUNICODE": 4, "BINUNICODE": 4, "BINUNICODE8": 4, "LONG1": 2, "LONG4": 2}


class _Kind(enum.Enum):
    """What is on the stack, as far as it matters to what may be done to it."""

    VALUE = enum.auto()  # finished: also a container, once something holds it
    LIST = enum.auto()
    DICT = enum.auto()
    SET = enum.auto()
    INSTANCE = enum.auto()  # of an allowed class, which may be all of the above
    NAMED = enum.auto()  # a class or a builder, which is there to be called, and is no data


class _Node:
    """An object on the stack and in the memo.

    Attributes:
        depth: how many containers nest in it.
        bytes: what it takes, with all that it holds, counted each time that it is held.
    """

    __slots__ = ("bytes", "depth", "kind")

    def __init__(self, kind: _Kind, depth: int, size: int) -> None:
        self.kind = kind
        self.depth = depth
        self.bytes = size


@dataclass(frozen=True, slots=True)
class _Opcode:
    """How an opcode is read, and what it does.

    Attributes:
        act: what it does with the stack, None if it only pushes a value.
        fixed: bytes of its argument, or
        prefix: bytes of the length of its argument.
        takes: how many objects it takes from the stack besides a container that it fills.
        to_mark: it takes all up to the last mark instead.
        kind: of what it makes or fills.
        cost: bytes of memory, at most.
        per_byte: and of each byte of the argument.
        per_item: and of each object that it takes.
        node: what it pushes, None if that depends on the argument.
    """

    act: Callable[[_Walk, _Opcode, int, bytes], int] | None
    fixed: int
    prefix: int
    takes: int
    to_mark: bool
    kind: _Kind
    cost: int
    per_byte: int
    per_item: int
    node: _Node | None


Opcodes = Mapping[int, _Opcode]


def measure(data: bytes, opcodes: Opcodes, max_bytes: int = MAX_MEMORY_BYTES) -> int:
    """Walk through a pickle, and return how many bytes of memory it takes at most, without what its calls make.

    What the memo holds counts each time that it is used, as if it had been sent again: of twenty lists, each of which
    holds the one before ten times, a program that goes through them would never see the end, nor would the hash of such
    tuples. For that to be known when it is used, it has to be finished: a value does not hold itself, and a container
    that something holds is not filled any more.

    No opcode begins in a frame and ends behind it. Where one does, Python's unpickler in C forgets what is left of the
    frame and takes the argument from behind it, so that it would go on elsewhere than this walk does.

    Args:
        opcodes: those that are allowed, by their code.
    Raises:
        RemoteProtocolError: it has another opcode, nests too deep, takes more than `max_bytes`, or changes what is
            finished, or a class.
        LookupError, ValueError: it is not well formed.
    """
    walk = _Walk()
    nodes = walk.nodes
    used = at = 0
    end = len(data)  # or that of the frame
    while True:
        begin = at
        code = data[begin]
        opcode = opcodes.get(code)
        if opcode is None:
            raise refusal(f"pickle opcode {_NAMES.get(code, code)}")
        start, size = at + 1 + opcode.prefix, opcode.fixed
        if opcode.prefix:
            size = int.from_bytes(data[at + 1 : start], "little")
        at = start + size
        if begin == end:
            end = len(data)
        if at > end:
            raise ValueError("it is cut short")
        cost = opcode.cost + size * opcode.per_byte
        used += cost
        if used > max_bytes:
            raise RemoteProtocolError(f"a message would take more than {max_bytes} bytes of memory")
        if opcode.act is None:
            nodes.append(opcode.node or _Node(_Kind.VALUE, 0, cost))
        elif code == _FRAME:
            if end < len(data):
                raise ValueError("it has a frame within a frame")
            end = at + int.from_bytes(data[start:at], "little")
            if end > len(data):
                raise ValueError("it is cut short")
        elif code != _STOP:
            used += opcode.act(walk, opcode, cost, data[start:at])
        elif at != len(data):
            raise ValueError("it goes on after its end")
        else:
            walk.end()
            return used


class _Walk:
    """Pickle's stack and memo. What acts on them returns how many bytes that takes, besides the cost of its opcode."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self._marks: list[int] = []
        self._memo: list[_Node] = []

    def nothing(self, _opcode: _Opcode, _cost: int, _argument: bytes) -> int:
        """Leave all as it is."""
        return 0

    def mark(self, _opcode: _Opcode, _cost: int, _argument: bytes) -> int:
        """Note how far a later opcode may take."""
        self._marks.append(len(self.nodes))
        return 0

    def memoize(self, _opcode: _Opcode, _cost: int, _argument: bytes) -> int:
        """Remember the last object."""
        self._memo.append(self.nodes[-1])
        return 0

    def get(self, _opcode: _Opcode, _cost: int, argument: bytes) -> int:
        """Push an object of the memo."""
        node = self._memo[int.from_bytes(argument, "little")]
        if node.kind is not _Kind.VALUE and node.kind is not _Kind.NAMED:
            raise refusal("a value that holds itself")
        self.nodes.append(node)
        return node.bytes

    def open(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push a container, which is filled later."""
        self.nodes.append(_Node(opcode.kind, 0, cost))
        return 0

    def name(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push a class or a builder."""
        self._hold(self._take(opcode))
        self.nodes.append(_Node(_Kind.NAMED, 0, cost))
        return 0

    def make(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push what holds the last objects."""
        taken = self._take(opcode)
        depth, held = self._hold(taken)
        more = opcode.per_item * len(taken)
        self.nodes.append(_Node(opcode.kind, depth, cost + held + more))
        return more

    def call(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push what something makes of its arguments: it may copy all that it is given."""
        named, *arguments = self._take(opcode)
        if named.kind is not _Kind.NAMED:
            raise refusal("a call of what has no name")
        depth, held = self._hold(arguments)
        self.nodes.append(_Node(opcode.kind, depth, cost + held))
        return held

    def fill(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Put the last objects into the container before them."""
        taken = self._take(opcode, below=1)
        filled = self.nodes[-1]
        if filled.kind is not opcode.kind and filled.kind is not _Kind.INSTANCE:
            raise refusal("a change to a class" if filled.kind is _Kind.NAMED else "a change to what is finished")
        depth, held = self._hold(taken)
        more = opcode.per_item * len(taken)
        filled.depth = max(filled.depth, depth)
        filled.bytes += cost + held + more
        return more

    def end(self) -> None:
        """Check that one value is left."""
        if len(self.nodes) != 1 or self._marks:
            raise ValueError(f"it ends with {len(self.nodes)} objects, expected one")
        _finish(self.nodes[0])

    def _take(self, opcode: _Opcode, below: int = 0) -> list[_Node]:
        """Take objects from the stack, and leave at least `below` above the mark."""
        first = self._marks.pop() if opcode.to_mark else len(self.nodes) - opcode.takes
        if first - below < (self._marks[-1] if self._marks else 0):
            raise ValueError("it takes more from the stack than there is")
        taken = self.nodes[first:]
        del self.nodes[first:]
        return taken

    @staticmethod
    def _hold(taken: list[_Node]) -> tuple[int, int]:
        """Finish objects; return how deep and how large it is what holds them."""
        depth = held = 0
        for node in taken:
            if node.kind is not _Kind.VALUE:
                _finish(node)
            if node.depth >= depth:
                depth = node.depth + 1
            held += node.bytes
        if depth > MAX_DEPTH:
            raise RemoteProtocolError(f"a message is nested more than {MAX_DEPTH} deep")
        return depth, held


def _finish(node: _Node) -> None:
    if node.kind is _Kind.NAMED:
        raise refusal("a class as a value")
    node.kind = _Kind.VALUE


_ACTS = {
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), _Walk.open),
    **dict.fromkeys(("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"), _Walk.fill),
    **dict.fromkeys(("TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "FROZENSET"), _Walk.make),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX"), _Walk.call),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Walk.get),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _Walk.nothing),
    "STACK_GLOBAL": _Walk.name,
    "MARK": _Walk.mark,
    "MEMOIZE": _Walk.memoize,
}
_KINDS = {
    **dict.fromkeys(("EMPTY_LIST", "APPEND", "APPENDS"), _Kind.LIST),
    **dict.fromkeys(("EMPTY_DICT", "SETITEM", "SETITEMS"), _Kind.DICT),
    **dict.fromkeys(("EMPTY_SET", "ADDITEMS"), _Kind.SET),
    **dict.fromkeys(("NEWOBJ", "NEWOBJ_EX", "BUILD"), _Kind.INSTANCE),
}
_PREFIX_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


def _read_opcode(info: pickletools.OpcodeInfo) -> _Opcode:
    act = _ACTS.get(info.name)
    argument_bytes = 0 if info.arg is None else info.arg.n
    prefix = _PREFIX_BYTES.get(argument_bytes, 0)
    cost = _OBJECT_BYTES + _MORE_BYTES.get(info.name, 0)
    return _Opcode(
        act=act,
        fixed=max(0, argument_bytes),
        prefix=prefix,
        takes=len(info.stack_before) - (act is _Walk.fill),
        to_mark=pickletools.markobject in info.stack_before,
        kind=_KINDS.get(info.name, _Kind.VALUE),
        cost=cost,
        per_byte=_BYTES_PER_BYTE.get(info.name, 1),
        per_item=_BYTES_PER_ITEM.get(info.name, 0),
        node=None if prefix else _Node(_Kind.VALUE, 0, cost),
    )


_STOP, _FRAME = ord("."), 0x95
_NAMES = {ord(info.code): info.name for info in pickletools.opcodes}
DATA_OPCODES: Opcodes = {ord(info.code): _read_opcode(info) for info in pickletools.opcodes if info.name in _DATA}
INSTANCE_OPCODES: Opcodes = {
    ord(info.code): _read_opcode(info) for info in pickletools.opcodes if info.name in _DATA | _INSTANCES
}


def refusal(name: str) -> RemoteProtocolError:
    """Return the error that names what a peer asked for."""
    return RemoteProtocolError(f"a message asks for {shown(name)}, which is not allowed")


def shown(text: str) -> str:
    """Return a peer's text on one line of plain characters."""
    return ascii(text)[1:-1][:80]
