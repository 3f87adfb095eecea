"""What MPyC gets in place of `pickle`: the same two functions, for data only.

Stock MPyC unpickles whatever a peer sends, so any party can run code on any other. Here a message holds None, bool,
int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, and numbers of numpy and MPyC taken apart by
onionmpc.program.values; no numpy or MPyC callable can be named by a peer at all. Classes of a program's own pass only
if all parties have agreed to allow them by name. Knows pickle's opcodes. Rules: docs/PROTOCOL.md section 6.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterable
from typing import Any

from onionmpc.errors import ProgramError, RemoteProtocolError, UsageError
from onionmpc.program.hello import MAX_PAYLOAD_BYTES
from onionmpc.program.values import BUILDERS, MALFORMED, reduce_value

PROTOCOL = 5  # fixed, since Python's default differs between versions
_PROLOGUE = bytes([0x80, PROTOCOL])
MAX_DEPTH = 100  # hashing nested tuples recurses in C without a limit of its own
_BUILDERS_MODULE = reduce_value.__module__

# What protocol 5 uses for plain data. Not among them: anything that builds an instance, the extension registry,
# persistent ids, out-of-band buffers, and memo indices of the sender's choice (a large one makes CPython allocate).
_CONSTANTS = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_LISTS_AND_DICTS = {"EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"}
_TUPLES_AND_SETS = {"EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
_STRUCTURE = {"PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINGET", "LONG_BINGET", "STACK_GLOBAL", "REDUCE"}
_DATA_OPCODES = frozenset(_CONSTANTS | _STRINGS | _LISTS_AND_DICTS | _TUPLES_AND_SETS | _STRUCTURE)
_INSTANCE_OPCODES = frozenset({"NEWOBJ", "NEWOBJ_EX", "BUILD"})
_NAMED = -1  # in place of a depth: a class or a builder, which is not data
_FILLS_ITS_CONTAINER = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})

_MALFORMED = (*MALFORMED, pickle.UnpicklingError, EOFError, ImportError)


class RestrictedPickle:
    """Stands where mpyc.runtime looks for `pickle`.

    Args:
        allowed: further classes, as "module.Class". Allowing one trusts every party with all that its
            constructor and `__setstate__` can be made to do.
        max_bytes: the longest message that is looked at.
    """

    def __init__(self, allowed: Iterable[str] = (), *, max_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._allowed = frozenset(allowed)
        for name in self._allowed:
            if "." not in name or not all(word.isidentifier() for word in name.split(".")):
                raise UsageError(f"{_shown(name)} cannot be allowed, expected module.Class")
        self._opcodes = _DATA_OPCODES | _INSTANCE_OPCODES if self._allowed else _DATA_OPCODES
        self._max_bytes = max_bytes

    def dumps(self, obj: object) -> bytes:
        """Return `obj` as bytes that the peer's `loads` takes.

        Raises:
            ProgramError: it is, or holds, something that the peer would refuse.
        """
        file = io.BytesIO()
        _Pickler(file, self._allowed).dump(obj)
        return file.getvalue()

    def loads(self, data: bytes) -> object:
        """Return what a peer sent.

        Raises:
            RemoteProtocolError: it is malformed, too long or too deep, or names what is not allowed.
        """
        if len(data) > self._max_bytes:
            raise RemoteProtocolError(f"a message has {len(data)} bytes, expected at most {self._max_bytes}")
        # Where programs diverge, MPyC takes shares for a pickle: no attack, and named apart from one.
        doubt = "" if data.startswith(_PROLOGUE) else "; or else the parties' programs have gone different ways"
        try:
            _check_opcodes(data, self._opcodes)
            return _Unpickler(io.BytesIO(data), self._allowed).load()
        except _MALFORMED as error:
            raise RemoteProtocolError(f"a message is not well formed: {_shown(str(error))}{doubt}") from error
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"{error.message}{doubt}") from error


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, allowed: frozenset[str]) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._allowed = allowed

    def reducer_override(self, obj: object) -> Any:  # noqa: ANN401 (as the base class has it)
        """Say how to send `obj`, which is not of a type that pickle has opcodes for."""
        if reduced := reduce_value(obj):
            return reduced
        named = obj if hasattr(obj, "__qualname__") else type(obj)
        name = f"{named.__module__}.{named.__qualname__}"
        if name not in self._allowed and BUILDERS.get(named.__qualname__) is not obj:
            raise ProgramError(
                f"the program sends a {_shown(name)}, which the other parties would refuse",
                hint="send its numbers, or have all parties allow this class",
            )
        return NotImplemented  # by its name, or as pickle does


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: frozenset[str]) -> None:
        super().__init__(file)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> object:
        if module == _BUILDERS_MODULE and name in BUILDERS:
            return BUILDERS[name]
        # A name with a dot would walk attributes: "ndarray.__class__" of "numpy".
        if f"{module}.{name}" in self._allowed and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type):
                return found
        raise _refusal(f"{module}.{name}")


def _check_opcodes(data: bytes, opcodes: frozenset[str]) -> None:
    """Walk through a pickle without running it, keeping for each object on its stack how deep it is."""
    stack: list[int] = []
    marks: list[int] = []
    memo: list[int] = []
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name not in opcodes:
            raise _refusal(f"pickle opcode {name}")
        if name == "MARK":
            marks.append(len(stack))
        elif name == "MEMOIZE":
            memo.append(stack[-1])
        elif name.endswith("BINGET"):
            stack.append(memo[int(argument or 0)])
        elif opcode.stack_before or opcode.stack_after:
            to_mark = pickletools.markobject in opcode.stack_before
            start = marks.pop() if to_mark else len(stack) - len(opcode.stack_before)
            if name in _FILLS_ITS_CONTAINER:
                start += not to_mark
                if stack[start - 1] == _NAMED:  # BUILD would change an allowed class for the whole process
                    raise _refusal("a change to a class")
                stack[start - 1] = max(stack[start - 1], *(depth + 1 for depth in stack[start:]), 0)
                del stack[start:]
            else:
                depth = _NAMED if name == "STACK_GLOBAL" else max(stack[start:], default=-1) + 1
                stack[start:] = [depth] * len(opcode.stack_after)
            if stack and stack[-1] > MAX_DEPTH:
                raise RemoteProtocolError(f"a message is nested more than {MAX_DEPTH} deep")


def _refusal(name: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a message asks for {_shown(name)}, which is not allowed")


def _shown(text: str) -> str:
    """A peer's text on one line of plain characters."""
    return ascii(text)[1:-1][:80]
