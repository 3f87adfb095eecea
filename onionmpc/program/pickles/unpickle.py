"""Replaces `pickle` in MPyC with the same two functions, for data only.

Stock MPyC unpickles everything that a peer sends, so any party can run code at any other. Here a message may contain
None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, and further values of Python, numpy
and MPyC in the form of onionmpc.program.values. A peer cannot name any callable of these. Classes of the program pass
only if all parties agreed to allow them by name. Rules: docs/PROTOCOL.md section 6.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onionmpc.errors import ProgramError, RemoteProtocolError
from onionmpc.program.pickles.opcodes import DATA_OPCODES, INSTANCE_OPCODES, MAX_MEMORY_BYTES, measure, refusal, shown
from onionmpc.program.process.hello import MAX_MPYC_PAYLOAD_BYTES
from onionmpc.program.values import BUILDERS, reduce_value
from onionmpc.program.values.advice import what_to_send_instead
from onionmpc.program.values.checks import MALFORMED, Builder, NotMade

PROTOCOL = 5  # fixed, because Python's default differs between versions
_PROLOGUE = bytes([0x80, PROTOCOL])
_BUILDERS_MODULE = reduce_value.__module__
_MALFORMED = (*MALFORMED, pickle.UnpicklingError, EOFError)


class RestrictedPickle:
    """Takes the place of the module `pickle` in mpyc.runtime.

    Args:
        allowed: further classes, as "module.Class". The module of the script is "__main__". Allowing a class trusts
            every party with everything that its constructor and `__setstate__` can be made to do.
        script: the program's script. A class passes only if the script, or a module below its folder, defines it.
        max_bytes: the length of the longest message.
        max_memory_bytes: the memory that one message may take.
    """

    def __init__(
        self,
        allowed: Iterable[str] = (),
        *,
        script: Path = Path(),
        max_bytes: int = MAX_MPYC_PAYLOAD_BYTES,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._script = script
        self._opcodes = INSTANCE_OPCODES if self._allowed else DATA_OPCODES
        # The constructor of an allowed class may raise anything when a peer chooses the arguments.
        self._malformed: tuple[type[Exception], ...] = (Exception,) if self._allowed else _MALFORMED
        self._max_bytes = max_bytes
        self._max_memory_bytes = max_memory_bytes

    def dumps(self, obj: object) -> bytes:
        """Return `obj` as bytes that the peer's `loads` accepts.

        Raises:
            ProgramError: the object is, or contains, something that the peer would refuse.
        """
        file = io.BytesIO()
        pickler = _Pickler(file, self._allowed)
        try:
            pickler.dump(obj)
        except ProgramError as error:
            error.add_note(error.hint)  # if the script's traceback shows this error, the user sees the hint there
            raise
        except RecursionError as error:
            reason = "a value that is nested too deep or contains itself"
            raise ProgramError(f"the program sends {reason}, which the other parties would refuse") from error
        data = file.getvalue()
        try:
            self._measure(data, pickler.built_bytes)
        except (RemoteProtocolError, *_MALFORMED) as error:
            # Report it here, where it can be fixed. The other parties would take it for an attack.
            raise ProgramError(f"the program sends something that the other parties would refuse: {error}") from error
        return data

    def loads(self, data: bytes) -> object:
        """Return the object that a peer sent.

        Raises:
            RemoteProtocolError: it is malformed, too long, too deep or too large, or asks for something that is not
                allowed.
        """
        # If programs take different branches, MPyC takes shares for a pickle. That is not an attack, so say so.
        doubt = "" if data.startswith(_PROLOGUE) else "; or the parties' programs have taken different paths"
        try:
            room = self._max_memory_bytes - self._measure(data)
            return _Unpickler(io.BytesIO(data), self._allowed, self._script, room).load()
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"{error.message}{doubt}") from error
        except NotMade as error:
            hint = "every party's program must make it before the transfer"
            raise RemoteProtocolError(
                f"a message needs {shown(str(error))}, which this program has not made", hint=hint
            ) from error
        except self._malformed as error:
            raise RemoteProtocolError(f"a message is not well formed: {shown(str(error))}{doubt}") from error

    def _measure(self, data: bytes, built_bytes: int = 0) -> int:
        if len(data) > self._max_bytes:
            raise RemoteProtocolError(f"a message has {len(data)} bytes, expected at most {self._max_bytes}")
        measured = measure(data, self._opcodes, self._max_memory_bytes)
        if measured + built_bytes > self._max_memory_bytes:
            raise _too_large()
        return measured


class _Pickler(pickle.Pickler):
    """Writes a message.

    Attributes:
        built_bytes: the memory that the builders in the message will take.
    """

    def __init__(self, file: io.BytesIO, allowed: frozenset[str]) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._allowed = allowed
        self.built_bytes = 0

    def reducer_override(self, obj: object) -> Any:  # noqa: ANN401 (as the base class has it)
        """Say how to send `obj`, which is not of a type that pickle has opcodes for."""
        named = obj if hasattr(obj, "__qualname__") and hasattr(obj, "__module__") else type(obj)
        name = f"{named.__module__}.{named.__qualname__}"
        try:
            if reduced := reduce_value(obj):
                build, arguments = reduced
                self.built_bytes += BUILDERS[build.__name__].bytes(*arguments)
                return reduced
        except MALFORMED as error:
            raise ProgramError(
                f"the program sends a {shown(name)} that the other parties would refuse: {shown(str(error))}"
            ) from error
        if name in self._allowed or _is_builder(obj):
            return NotImplemented  # pickle goes on as usual: by name, or as an instance
        hint = what_to_send_instead(obj, shown(name))
        raise ProgramError(f"the program sends a {shown(name)}, which the other parties would refuse", hint=hint)


class _Budget:
    """The memory that is left for what builders make. The walk cannot know it: one byte may become a polynomial.

    Not the unpickler itself: its memo holds these methods, and a cycle would keep each message until Python looks for
    cycles.
    """

    def __init__(self, room: int) -> None:
        self._room = room

    def build(self, builder: Builder, *arguments: Any) -> object:  # noqa: ANN401 (a peer may send anything)
        """Build a value, if there is room for it."""
        self._room -= builder.bytes(*arguments)
        if self._room < 0:
            raise _too_large()
        return builder.build(*arguments)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, allowed: frozenset[str], script: Path, room: int) -> None:
        super().__init__(file)
        self._allowed = allowed
        self._script = script
        self._budget = _Budget(room)

    def find_class(self, module: str, name: str) -> object:
        if module == _BUILDERS_MODULE and name in BUILDERS:
            return functools.partial(self._budget.build, BUILDERS[name])
        # pickle looks up a name with a dot attribute by attribute, for example "ndarray.__class__" in "numpy".
        if f"{module}.{name}" in self._allowed and "." not in name:
            found = self._class_of_program(module, name)
            if found is not None:
                return found
        raise refusal(f"{module}.{name}")

    def _class_of_program(self, module: str, name: str) -> type | None:
        """Return a class that the program's own files define. Nothing is imported for a peer."""
        loaded = sys.modules.get(module)
        below = self._script.parent.joinpath(*module.split("."))
        files = [self._script] if module == "__main__" else [below.with_suffix(".py"), below / "__init__.py"]
        if loaded is None or Path(getattr(loaded, "__file__", None) or ".") not in files:
            return None
        found = vars(loaded).get(name)
        if not isinstance(found, type) or issubclass(found, type):  # a metaclass would let a peer make new classes
            return None
        # Only a class that the module defines. One that it imported may be anything, for example subprocess.Popen.
        return found if (found.__module__, found.__qualname__) == (module, name) else None


def _is_builder(obj: object) -> bool:
    return isinstance(obj, types.FunctionType) and any(obj is builder.build for builder in BUILDERS.values())


def _too_large() -> RemoteProtocolError:
    return RemoteProtocolError("the values in a message would take too much memory")
