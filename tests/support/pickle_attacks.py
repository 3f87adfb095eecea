"""A corpus of known attacks by pickle: each with its bytes, and what a party must say of it.

Where an attack would do something, it makes a marker: a file of that name.
"""

from __future__ import annotations

import copyreg
import importlib
import os
import pickle
import runpy
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from onionmpc.program import values
from onionmpc.program.pickles import unpickle
from onionmpc.program.pickles.unpickle import RestrictedPickle

OURS = values.__name__
PROTOCOLS = range(6)


@dataclass(frozen=True)
class Attack:
    """One of them.

    Attributes:
        says: a pattern of the reason that is given.
        runs: whether Python's own pickle lets it make the marker.
    """

    name: str
    data: bytes
    says: str
    runs: bool = False


class Ballot:
    """A class of a program's own, which nobody has allowed."""

    def __init__(self, number: int) -> None:
        self.number = number


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced

    def __call__(self) -> None:
        """Pickle asks for that of what is to be called."""


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def bare(value: object) -> bytes:
    """A pickle of protocol 4 without its beginning, frame and end."""
    data = pickle.dumps(value, protocol=4)[2:-1]
    return data[9:] if data[:1] == b"\x95" else data


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def call(module: str, name: str, *arguments: object) -> bytes:
    """A pickle of protocol 4 that names a callable by STACK_GLOBAL and calls it."""
    return b"\x80\x04" + named(module, name) + bare(arguments) + b"R."


def attacks(marker: str) -> list[Attack]:
    """Return those that would run code, or build what nobody agreed to."""
    return [
        *calls_of_functions(marker),
        *calls_by_name(marker),
        *forbidden_opcodes(marker),
        *misused_builders(),
        *broken_structures(),
        *behind_frames(),
    ]


def calls_of_functions(marker: str) -> Iterator[Attack]:
    """Calls as a `__reduce__` makes them, in each protocol."""
    touch = f"open({marker!r}, 'w')"
    system = f"touch {marker}"
    found = {
        "os.system": (Calls(os.system, system), True),
        "subprocess.Popen": (Calls(subprocess.Popen, ["touch", marker]), False),  # it is not waited for
        "subprocess.check_output": (Calls(subprocess.check_output, ["touch", marker]), True),
        "eval": (Calls(eval, touch), True),
        "exec": (Calls(exec, touch), True),
        "open": (Calls(open, marker, "w"), True),
        "getattr": (Calls(getattr, Calls(__import__, "os"), "system"), False),
        "getattr chain": (Calls(Calls(getattr, Calls(__import__, "os"), "system"), system), True),
        "import": (Calls(importlib.import_module, "os"), False),
        "runpy": (Calls(runpy.run_path, marker), False),
        "pickle.loads": (Calls(pickle.loads, pickle.dumps(Calls(os.system, system))), True),
        "our own loads": (Calls(RestrictedPickle, ("os.system",)), False),
        "numpy.load": (Calls(np.load, marker), False),
        "numpy.save": (Calls(np.save, marker, 1), False),  # as marker.npy
        "numpy.dtype": (Calls(np.dtype, "O"), False),
        "numpy.ndarray": (Calls(np.ndarray, (2,), "O"), False),
        "numpy.frombuffer": (Calls(np.frombuffer, bytes(8), "u1"), False),
        "copyreg._reconstructor": (Calls(copyreg._reconstructor, Ballot, object, None), False),  # type: ignore[attr-defined]
        "an instance": (Ballot(1), False),
        "a class": (Ballot, False),
        "an array as numpy pickles it": (np.array([1, 2]), False),
        "an array of objects as numpy pickles it": (np.array([1, None], dtype=object), False),
        "a scalar as numpy pickles it": (np.float64(1.5), False),
        "a type of numpy's": (np.dtype([("f", "O")]), False),
        "a module-level function": (call, False),
    }
    for name, (value, runs) in found.items():
        for protocol in PROTOCOLS:
            says = r"asks for (?!pickle opcode)[\w.]+|asks for pickle opcode (NEWOBJ|BUILD)"
            if protocol < 4:
                says = r"asks for pickle opcode (GLOBAL|PUT|BINPUT|UNICODE|INT)"
            yield Attack(f"{name}, protocol {protocol}", pickle.dumps(value, protocol=protocol), says, runs)


# What scanners of pickles were found to miss: each is one call away from running code, reading or dialling.
GADGETS = """
    os.system os.popen os.execv os.posix_spawn os.spawnl posix.system nt.system builtins.eval builtins.exec
    builtins.compile builtins.getattr builtins.setattr builtins.__import__ builtins.breakpoint builtins.open
    builtins.map builtins.type builtins.globals builtins.vars __builtin__.eval __builtin__.apply commands.getoutput
    subprocess.run
    subprocess.call subprocess.getoutput operator.attrgetter operator.methodcaller operator.itemgetter
    functools.partial functools.reduce types.FunctionType types.CodeType marshal.loads importlib.import_module
    importlib.reload importlib.machinery.SourceFileLoader pty.spawn socket.create_connection
    urllib.request.urlopen http.client.HTTPSConnection shutil.rmtree shutil.copyfile tempfile.mktemp pathlib.Path
    ctypes.CDLL ctypes.string_at timeit.timeit timeit.main bdb.Bdb.run pdb.run cProfile.run profile.run trace.Trace.run
    doctest.debug_script code.interact code.InteractiveInterpreter codeop.compile_command runpy.run_module
    logging.config.listen logging.config.dictConfig unittest.mock._importer webbrowser.open pydoc.pipepager
    pydoc.locate asyncio.create_subprocess_shell multiprocessing.util.spawnv_passfds ensurepip._run_pip pip.main
    uuid._get_command_stdout test.support.script_helper.assert_python_ok lib2to3.pgen2.grammar.Grammar.loadd
    idlelib.pyshell.ModifiedInterpreter idlelib.run.Executive.runcode pickle.loads _pickle.Unpickler
    shelve.DbfilenameShelf dill.loads cloudpickle.loads joblib.load torch.load yaml.unsafe_load
    collections.OrderedDict collections.defaultdict copyreg.__newobj__ copyreg.__reduce_ex__ copyreg.add_extension
    copy_reg._reconstructor _io.FileIO sys.exit sys.setrecursionlimit signal.alarm gc.get_objects
    inspect.currentframe weakref.finalize atexit.register threading.Thread sqlite3.connect
    numpy.load numpy.save numpy.fromfile numpy.memmap numpy.ndarray numpy.dtype numpy.void numpy.zeros numpy.frompyfunc
    numpy._core.multiarray._reconstruct numpy.core.multiarray._reconstruct numpy._core.multiarray.scalar
    numpy.core.multiarray.scalar numpy._core.numeric._frombuffer numpy.testing._private.utils.runstring
    numpy.testing.rundocs numpy.f2py.compile numpy.f2py.crackfortran.myeval numpy.f2py.crackfortran.getlincoef
    numpy.f2py.crackfortran._eval_length numpy.f2py.diagnose.run_command numpy.random._pickle.__randomstate_ctor
    numpy.ma.core._mareconstruct numpy.rec.fromfile
    mpyc.runtime.mpc mpyc.runtime.setup mpyc.asyncoro.start mpyc.finfields.GF mpyc.gfpx.GFpX
    mpyc.fingroups.EllipticCurve mpyc.sectypes.SecInt mpyc.thresha.pseudorandom_share mpyc.mpctools.reduce
    __main__.main __main__.Supervisor onionmpc.program.process.supervisor.Supervisor
    onionmpc.program.pickles.unpickle.RestrictedPickle
    onionmpc.session.keystore.load onionmpc.files.remove onionmpc.program.process.launch.start_program
"""


def calls_by_name(marker: str) -> Iterator[Attack]:
    """Names that must not be resolved, by STACK_GLOBAL."""
    touch = f"open({marker!r}, 'w')"
    for gadget in GADGETS.split():
        module, _, name = gadget.rpartition(".")
        yield Attack(f"gadget {gadget}", call(module, name, touch), rf"asks for {gadget}, which is not allowed")
    refused = "which is not allowed"
    by_name = {
        "a dotted name": call("numpy", "ndarray.__class__.__base__.__subclasses__"),
        "a dotted name into builtins": call("numpy", "ma.core.builtins.eval", touch),
        "a dotted name below ours": call(
            unpickle.__name__, "pickle.loads", pickle.dumps(Calls(os.system, f"touch {marker}"))
        ),
        "a builder's neighbour": call(OURS, "reduce_value", 1),
        "a builder of another module": call(unpickle.__name__, "array_of_shares", 0, (1,), 1, b"1"),
        "a builder's globals": call(OURS, "array_of_shares.__globals__.get", "sys"),
        "a builder with a blank": call(OURS, "polynomial ", 2, 1),
        "a builder in other letters": call(OURS, "p\u043elynomial", 2, 1),
        "a module in compatibility letters": call("\uff4fs", "system", touch),
        "a name that we import": call(unpickle.__name__, "_Unpickler", 1, 2),
        "a private name": call(unpickle.__name__, "_Unpickler.find_class", 1, 2, 3),
        "code": call("types", "FunctionType"),
        "an empty module": call("", "eval", touch),
        "an empty name": call("builtins", "", touch),
        "a relative module": call(".os", "system", touch),
    }
    runs = {"a dotted name into builtins", "a dotted name below ours"}
    for name, data in by_name.items():
        yield Attack(name, data, refused, name in runs)
    yield Attack("a lone surrogate", b"\x80\x04\x8c\x03\xed\xa0\x80\x8c\x04eval\x93)R.", refused)
    yield Attack("a name that is none", b"\x80\x04NN\x93)R.", "not well formed: STACK_GLOBAL requires str")


def forbidden_opcodes(marker: str) -> Iterator[Attack]:
    """Opcodes of which the walk stops at the first."""
    system = b"cos\nsystem\n"
    touch = f"touch {marker}".encode()
    popen = named("subprocess", "Popen")
    polynomial = named(OURS, "polynomial")
    by_opcode = {
        "GLOBAL": (b"\x80\x02" + system + b"U" + bytes([len(touch)]) + touch + b"\x85R.", "GLOBAL", True),
        "INST": (b"(S'" + touch + b"'\nios\nsystem\n.", "STRING", True),
        "INST alone": (b"(ios\nsystem\n.", "INST", False),
        "OBJ": (b"(" + system + b"S'" + touch + b"'\no.", "GLOBAL", False),
        "OBJ of a name": (b"(" + named("os", "system") + text("x") + b"o.", "OBJ", False),
        "PERSID": (b"Pos.system\n.", "PERSID", False),
        "BINPERSID": (b"\x8c\x02osQ.", "BINPERSID", False),
        "EXT1": (b"\x82\x01.", "EXT1", False),
        "EXT2": (b"\x83\x01\x00.", "EXT2", False),
        "EXT4": (b"\x84\x01\x00\x00\x00.", "EXT4", False),
        "EXT4 below zero": (b"\x84\xff\xff\xff\xff.", "EXT4", False),
        "NEXT_BUFFER": (b"\x80\x05\x97.", "NEXT_BUFFER", False),
        "READONLY_BUFFER": (b"\x80\x05N\x98.", "READONLY_BUFFER", False),
        "POP": (b"NN0.", "POP", False),
        "POP_MARK": (b"N(N1.", "POP_MARK", False),
        "DUP": (b"N2\x86.", "DUP", False),
        "PUT": (b"Np99999999999\n.", "PUT", False),
        "a huge memo index": (b"\x80\x04Nr\xff\xff\xff\x7f.", "LONG_BINPUT", False),
        "BINPUT": (b"Nq\x00.", "BINPUT", False),
        "GET": (b"N\x94g0\n\x86.", "GET", False),
        "a long integer in decimal": (b"L" + b"9" * 100_000 + b"L\n.", "LONG", False),
        "an integer in decimal": (b"I" + b"9" * 100_000 + b"\n.", "INT", False),
        "a float in decimal": (b"F1e400\n.", "FLOAT", False),
        "a text with escapes": (b"V\\ud800\n.", "UNICODE", False),
        "LIST": (b"(NNl.", "LIST", False),
        "DICT": (b"(NNd.", "DICT", False),
        "an unknown opcode": (b"\xff.", "255", False),
        "a zero": (b"\x00.", "0", False),
    }
    for name, (data, opcode, runs) in by_opcode.items():
        yield Attack(name, data, f"asks for pickle opcode {opcode}, which is not allowed", runs)
    either = {
        "NEWOBJ": (b"\x80\x04" + popen + text(marker) + b"\x85\x81.", r"opcode NEWOBJ|subprocess\.Popen"),
        "NEWOBJ_EX": (b"\x80\x04" + popen + b")}\x92.", r"opcode NEWOBJ_EX|subprocess\.Popen"),
        "BUILD on a builder": (
            b"\x80\x04" + polynomial + b"}" + text("x") + b"K\x01sb)R.",
            "opcode BUILD|a change to a class",
        ),
        "BUILD of slots": (b"\x80\x04" + polynomial + b"N}\x86b)R.", "opcode BUILD|a change to a class"),
        "BUILD on a list": (b"\x80\x04]}b.", "opcode BUILD|a change to a finished value"),
        "BUILD on an array": (
            call(OURS, "array_of_numbers", "<f8", (1,), bytes(8))[:-1] + b"(K\x01Nb.",
            "opcode BUILD|a change to a finished value",
        ),
    }
    for name, (data, says) in either.items():
        yield Attack(name, data, says)


def misused_builders() -> Iterator[Attack]:
    """What is allowed, in a place where it is not."""
    polynomial, array = named(OURS, "polynomial"), call(OURS, "array_of_numbers", "<f8", (1,), bytes(8))[:-1]
    value, finished = "a class as a value", "a change to a finished value"
    misused = {
        "a builder alone": (polynomial + b".", value),
        "a builder in a list": (b"]" + polynomial + b"a.", value),
        "a builder as a key": (b"}" + polynomial + b"Ns.", value),
        "a builder in a tuple": (polynomial + b"\x85.", value),
        "a builder as an argument": (polynomial + polynomial + b"\x85R.", value),
        "a builder by the memo": (b"]" + polynomial + b"\x94)Rh\x00\x86.", value),
        "a builder as a name": (polynomial + text("x") + b"\x93)R.", value),
        "a call of a text": (text("os.system") + b")R.", "a call of something without a name"),
        "a call of a tuple": (b"))R.", "a call of something without a name"),
        "a call of what a builder made": (array[2:] + b")R.", "a call of something without a name"),
        "SETITEM on an array": (array[2:] + b"K\x00K\x01s.", finished),
        "APPEND to an array": (array[2:] + b"K\x00a.", finished),
        "ADDITEMS to an array": (array[2:] + b"(K\x00\x90.", finished),
        "SETITEM on a list": (b"]K\x00K\x01s.", finished),
        "APPEND to a set": (b"\x8fNa.", finished),
        "APPEND to a text": (text("x") + text("y") + b"a.", finished),
        "APPEND to a builder": (polynomial + b"Na.", "a change to a class"),
        "APPEND to what something holds": (b"]\x94]h\x00a" + b".", "a value that contains itself"),
        "pointers for numbers": (
            named(OURS, "array_of_numbers")
            + text("<i8")
            + bare((1,))
            + call(OURS, "array_of_shares", 0, (1,), 1, b"1")[2:-1]
            + b"\x87R.",
            "not well formed: expected bytes",
        ),
        "a list that was held and grows": (b"(]\x94\x85h\x00Na\x86.", finished),
        "a list that holds itself": (b"]\x94h\x00a.", "a value that contains itself"),
        "a dict that holds itself": (b"}\x94Nh\x00s.", "a value that contains itself"),
    }
    for name, (data, says) in misused.items():
        yield Attack(name, b"\x80\x04" + data, says)


def broken_structures() -> Iterator[Attack]:
    """Stacks, marks and lengths that do not fit."""
    announced = {
        "LONG1": b"\x8a\xff",
        "LONG4": b"\x8b\xff\xff\xff\x7f",
        "LONG4 below zero": b"\x8b\xff\xff\xff\xff",
        "BINBYTES": b"B\xff\xff\xff\xff",
        "BINBYTES8": b"\x8e" + struct.pack("<Q", 2**40),
        "BINBYTES8 beyond signed": b"\x8e" + struct.pack("<Q", 2**64 - 1),
        "BYTEARRAY8": b"\x96" + struct.pack("<Q", 2**40),
        "BINUNICODE": b"X\xff\xff\xff\x7f",
        "BINUNICODE8": b"\x8d" + struct.pack("<Q", 2**62),
        "BININT": b"J\x00",
        "BINFLOAT": b"G\x00",
    }
    for name, data in announced.items():
        yield Attack(
            f"a length that was only announced, {name}", b"\x80\x04" + data + b".", "not well formed: it is cut"
        )
    yield Attack("FRAME beyond the end", b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.", "not well formed")
    yield Attack("FRAME beyond signed", b"\x80\x04\x95" + struct.pack("<Q", 2**64 - 1) + b"N.", "not well formed")
    broken = {
        "nothing": b"",
        "only the protocol": b"\x80\x04",
        "only the end": b".",
        "two values": b"NN.",
        "a mark alone": b"(.",
        "a mark at the end": b"N(.",
        "a value below a mark": b"N(\x85.",
        "a list below a mark": b"](Na.",
        "no mark": b"NNt.",
        "a memo that is empty": b"h\x00.",
        "a memo of nothing": b"\x94.",
        "a memo below a mark": b"N(\x94t.",
        "a protocol of the future": b"\x80\x63N.",
        "half a pair": b"}(Nu.",
        "more after the end": b"N.N.",
        "another pickle after the end": b"N.cos\nsystem\n(S'true'\ntR.",
        "a list as a key": b"}]Ns.",
        "text that is none": b"\x8c\x01\xff.",
    }
    for name, data in broken.items():
        yield Attack(name, data, "not well formed")


def behind_frames() -> Iterator[Attack]:
    """Opcodes that the unpickler in C comes to, and who does not heed frames takes for the content of bytes."""
    hidden = b"0)" + b"\x85" * 120 + b"."  # deeper than anything may be
    # Of an argument that goes on behind its frame C forgets two bytes, and takes two of what follows.
    follows = b"C" + bytes([len(hidden)]) + hidden + b"\x87."
    crossing = {
        "a text": _frame(b"\x8c\x04ab") + b"cd" + follows,
        "a long text": _frame(b"X\x04\0\0\0ab") + b"cd" + follows,
        "an integer": _frame(b"J\0\0") + b"\0\0" + follows,
        "a long integer": _frame(b"\x8a\x04\0\0") + b"\0\0" + follows,
        "a float": _frame(b"G\0\0") + bytes(6) + follows,
        "a length": _frame(b"B" + bytes([len(hidden) + 1])) + bytes(4) + hidden + b"\x86.",
    }
    for name, data in crossing.items():
        yield Attack(f"the argument of {name} goes on behind its frame", b"\x80\x04N" + data, "it is cut short")
    nested = _frame(_frame(b"N") + b"0" + b"\x8c\x04ab") + b"cd" + follows
    yield Attack("a frame within a frame", b"\x80\x04N" + nested, "a frame within a frame")


def _frame(data: bytes) -> bytes:
    return b"\x95" + struct.pack("<Q", len(data)) + data


def bombs(limit: int) -> Iterator[Attack]:
    """Return those that would take much more memory than `limit`, or more time than there is."""
    too_much = f"would take more than {limit} bytes of memory"
    start = b"\x80\x04"
    get = [b"h" + bytes([number]) for number in range(100)]
    many = limit // 16
    blob = b"\x8e" + struct.pack("<Q", limit // 4) + bytes(limit // 4) + b"\x94"
    polynomial = named(OURS, "polynomial")
    # Each holds the one before several times: 2**60 and 10**20 values.
    tuples = b")\x94" + b"".join(get[n] + get[n] + b"\x86\x94" for n in range(60))
    tens = b"N\x94" + b"".join(b"](" + get[n] * 10 + b"e\x85\x94" for n in range(20))
    found = {
        "billion laughs in tuples": b"(" + tuples + b"t.",
        "billion laughs as a key, which is hashed": b"(" + tuples[:-1] + b"N\x85}" + get[0] + b"Ns" + b"t.",
        "billion laughs in lists": b"(" + tens + b"t.",
        "a large key again and again": b"(" + blob + (b"}" + get[0] + b"Ns") * 100 + b"t.",
        "empty sets": b"(" + b"\x8f" * many + b"t.",
        "empty dicts": b"(" + b"}" * many + b"t.",
        "empty lists": b"(" + b"]" * many + b"t.",
        "frozen sets": b"(" + b"(\x91" * many + b"t.",
        "floats": b"(" + (b"G" + bytes(8)) * many + b"t.",
        "marks": b"(" * many,
        "frames": (b"\x95" + bytes(8)) * many + b"N.",
        "protocols": b"\x80\x04" * many + b"N.",
        "the memo": b"N" + b"\x94" * many + b".",
        "one text with wide letters": b"\x8d" + struct.pack("<Q", limit // 3) + b"a" * (limit // 3) + b".",
        "names": b"(" + polynomial * many + b"t.",
        "copies of an array": b"(" + blob + (_array(get[0], limit // 4)) * 100 + b"t.",
    }
    for name, data in found.items():
        yield Attack(name, start + data, too_much)
    shares = (
        b"(" + blob + named(OURS, "array_of_shares") + b"(K\x00" + bare((limit // 4,)) + b"K\x01" + get[0] + b"tRt."
    )
    yield Attack("a small integer of each byte", start + shares, "the values in a message would take too much memory")


def _array(data: bytes, size: int) -> bytes:
    return named(OURS, "array_of_numbers") + text("|u1") + bare((size,)) + data + b"\x87R"
