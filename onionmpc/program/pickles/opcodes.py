"""Measures a pickle without building it: its opcodes, how deep it nests, and how much memory it takes.

Knows pickle's opcodes and the cost of each. Runs, imports and decodes nothing, and does not know which names are
allowed. Rules: docs/PROTOCOL.md section 6.
"""

from __future__ import annotations

import enum
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from onionmpc.errors import RemoteProtocolError

MAX_DEPTH = 100  # hash() of nested tuples recurses in C without a limit: a deep one would crash the process
MAX_MEMORY_BYTES = 2**30  # for everything that one message builds; the longest message has as many bytes

# The opcodes that protocol 5 uses for plain data. Left out are those that build instances, the extension registry (its
# cache bypasses find_class), persistent ids, out-of-band buffers, DUP and POP, and memo indices that the sender chooses
# (CPython allocates up to the largest one).
_CONSTANTS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_LISTS_AND_DICTS = {"EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"}
_TUPLES_AND_SETS = {"EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
_STRUCTURE = {"PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "STACK_GLOBAL", "REDUCE"}
_DATA = _CONSTANTS | _STRINGS | _LISTS_AND_DICTS | _TUPLES_AND_SETS | _STRUCTURE
_INSTANCES = {"NEWOBJ", "NEWOBJ_EX", "BUILD"}

# Upper bounds of what CPython 3.11 to 3.13 allocates, plus what this walk allocates itself.
# tests/program/pickles/test_opcodes.py measures both. A new set has room for five items. An instance has a dict.
_OBJECT_BYTES = 128
_MORE_BYTES = {"EMPTY_SET": 256, "FROZENSET": 256, "EMPTY_DICT": 128, "NEWOBJ": 512, "NEWOBJ_EX": 512, "REDUCE": 256}
# While a set grows, it has eight places per item, and still the old ones.
_BYTES_PER_ITEM = {"ADDITEMS": 128, "FROZENSET": 128}
# One character beyond the BMP makes a string use four bytes per character. Integers store 30 bits in every 32.
_BYTES_PER_BYTE = {"SHORT_BINUNICODE": 4, "BINUNICODE": 4, "BINUNICODE8": 4, "LONG1": 2, "LONG4": 2}


class _Kind(enum.Enum):
    """The kind of an object on the stack: it decides which opcodes may act on it."""

    VALUE = enum.auto()  # finished; a container becomes a value once something holds it
    LIST = enum.auto()
    DICT = enum.auto()
    SET = enum.auto()
    INSTANCE = enum.auto()  # of an allowed class, which may subclass any of the above
    NAMED = enum.auto()  # a class or a builder: it can be called, but is not data


class _Node:
    """An object on the stack or in the memo.

    Attributes:
        depth: how deep containers nest in it.
        bytes: the memory that it takes, with everything that it holds, counted each time that it is held.
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
        act: what it does with the stack; None if it only pushes a value.
        fixed: the length of its argument, if that is fixed.
        prefix: otherwise, the length of the field that has the argument's length.
        takes: how many objects it takes from the stack, not counting a container that it fills.
        to_mark: whether it takes everything up to the last mark instead.
        kind: the kind of object that it makes or fills.
        cost: the memory that it takes at most, in bytes.
        per_byte: the additional cost of each byte of the argument.
        per_item: the additional cost of each object that it takes.
        node: the object that it pushes; None if that depends on the argument.
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
    """Walk through a pickle, and return an upper bound of the memory that it takes, without the results of its calls.

    An object in the memo counts each time that it is used, as if it were sent again. Otherwise a peer could send twenty
    lists, each of which holds the one before ten times: a program that iterates over them, or hashes such tuples, would
    never finish. So an object must be finished when it is used: a value must not contain itself, and a container that
    something holds must not be filled any more.

    No opcode may begin inside a frame and end behind it. There, Python's unpickler in C drops the rest of the frame and
    takes the argument from behind it: it would continue at another place than this walk.

    Args:
        opcodes: the allowed opcodes, by their code.

    Raises:
        RemoteProtocolError: the pickle has another opcode, nests too deep, takes more than `max_bytes`, or changes a
            finished value or a class.
        LookupError, ValueError: it is not well formed.
    """
    walk = _Walk()
    nodes = walk.nodes
    used = at = 0
    end = len(data)  # of the frame, inside of one
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
            raise ValueError("it continues after its end")
        else:
            walk.end()
            return used


class _Walk:
    """Pickle's stack and memo. Each action returns the memory that it takes in addition to the cost of its opcode."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self._marks: list[int] = []
        self._memo: list[_Node] = []

    def nothing(self, _opcode: _Opcode, _cost: int, _argument: bytes) -> int:
        """Change nothing."""
        return 0

    def mark(self, _opcode: _Opcode, _cost: int, _argument: bytes) -> int:
        """Note the position down to which a later opcode may take objects."""
        self._marks.append(len(self.nodes))
        return 0

    def memoize(self, _opcode: _Opcode, _cost: int, _argument: bytes) -> int:
        """Remember the last object."""
        self._memo.append(self.nodes[-1])
        return 0

    def get(self, _opcode: _Opcode, _cost: int, argument: bytes) -> int:
        """Push an object from the memo."""
        node = self._memo[int.from_bytes(argument, "little")]
        if node.kind is not _Kind.VALUE and node.kind is not _Kind.NAMED:
            raise refusal("a value that contains itself")
        self.nodes.append(node)
        return node.bytes

    def open(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push an empty container."""
        self.nodes.append(_Node(opcode.kind, 0, cost))
        return 0

    def name(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push a class or a builder."""
        self._hold(self._take(opcode))
        self.nodes.append(_Node(_Kind.NAMED, 0, cost))
        return 0

    def make(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push an object that holds the last objects."""
        taken = self._take(opcode)
        depth, held = self._hold(taken)
        more = opcode.per_item * len(taken)
        self.nodes.append(_Node(opcode.kind, depth, cost + held + more))
        return more

    def call(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Push the result of a call. The arguments count twice, since the callable may copy them."""
        named, *arguments = self._take(opcode)
        if named.kind is not _Kind.NAMED:
            raise refusal("a call of something without a name")
        depth, held = self._hold(arguments)
        self.nodes.append(_Node(opcode.kind, depth, cost + held))
        return held

    def fill(self, opcode: _Opcode, cost: int, _argument: bytes) -> int:
        """Put the last objects into the container before them."""
        taken = self._take(opcode, below=1)
        filled = self.nodes[-1]
        if filled.kind is not opcode.kind and filled.kind is not _Kind.INSTANCE:
            raise refusal("a change to a class" if filled.kind is _Kind.NAMED else "a change to a finished value")
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
        """Take objects from the stack, and leave at least `below` objects above the mark."""
        first = self._marks.pop() if opcode.to_mark else len(self.nodes) - opcode.takes
        if first - below < (self._marks[-1] if self._marks else 0):
            raise ValueError("it takes more from the stack than is there")
        taken = self.nodes[first:]
        del self.nodes[first:]
        return taken

    @staticmethod
    def _hold(taken: list[_Node]) -> tuple[int, int]:
        """Finish objects; return the depth and the size of an object that holds them."""
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
    """Return the error for something that a peer must not ask for."""
    return RemoteProtocolError(f"a message asks for {shown(name)}, which is not allowed")


def shown(text: str) -> str:
    """Return a peer's text as one short line of printable ASCII."""
    return ascii(text)[1:-1][:80]
