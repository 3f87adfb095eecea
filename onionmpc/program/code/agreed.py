"""Limits what the program process runs to Python, installed distributions and the files that all parties agreed on.

Knows Python's import system. Agreed Python files run from the bytes that the parties compared, under their own paths.
Python's own finders and loaders do the rest. All other code is refused by name. This is not a security boundary: agreed
code can read and `exec` what it likes. It catches differences between the parties that would pass unnoticed. Rules:
docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib.machinery
import importlib.util
import linecache
import os
import shlex
import site
import sys
import sysconfig
import types
import zipimport
from collections.abc import Iterable, Mapping
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Any

from onionmpc.resources import PACKAGE

# Where the system keeps its libraries. Packages of Debian, Nix and Guix consist of symbolic links into some of these.
SYSTEM_LIBRARIES = (
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/lib",
    "/lib",
    "/lib32",
    "/lib64",
)
STORES = (
    "/usr/share",
    "/nix/store",
    "/gnu/store",
    "/System",
    f"/etc/python{sys.version_info[0]}.{sys.version_info[1]}",
)
# Python runs these at startup, before any check of ours: they count as part of its installation.
AT_START = ("sitecustomize", "usercustomize")
LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


class NotAgreed(ImportError):
    """The program tried to run code that the parties did not agree on."""

    # The traceback shows this name, and the script's author has no use for the path of our module.

    __module__ = "onionmpc"


class AgreedFiles:
    """The files that the parties agreed on.

    Args:
        code: the bytes of the Python files, by path.
        on_disk: the SHA-256 of all other files, in hex, by path.
    """

    def __init__(self, code: Mapping[str, bytes], on_disk: Mapping[str, str]) -> None:
        # Both with and without symbolic links: an import names a file as sys.path does, a check its real path.
        self._code = {_real(path): source for path, source in code.items()} | dict(code)
        self._on_disk = {_real(path): digest for path, digest in on_disk.items()}
        self._folders = {os.path.dirname(path) for path in self._code}
        self._installed = _all_real(_installed())
        self._libraries = [*self._installed, *_all_real([*SYSTEM_LIBRARIES, *STORES, *_libraries_of_python()])]

    # -- the program

    def run(self, script: str) -> None:
        """Run the script as Python itself does: in a `__main__` that lives until the interpreter ends.

        runpy would drop the module when the script returns. This way, functions registered with atexit still find the
        script's names, and files that it leaves open are flushed.
        """
        main = types.ModuleType("__main__")
        vars(main).update(__file__=script, __cached__=None, __builtins__=builtins)
        main.__loader__ = SourceFileLoader("__main__", script)
        sys.modules["__main__"] = main
        exec(self._compile(script, self._code[script]), vars(main))  # noqa: S102 (this is our purpose)

    def guard_imports(self) -> None:
        """Refuse to import any other module, or to load any other library, from now on.

        Raises:
            NotAgreed: one was imported already, for example from PYTHONPATH.
        """
        for name, module in list(sys.modules.items()):
            path = getattr(getattr(module, "__spec__", None), "origin", None)
            if isinstance(path, str) and os.path.isabs(path) and name not in AT_START:
                self._check(path)
        self._guard_loaders()
        sys.path_hooks.insert(0, self._finder)
        sys.path_importer_cache.clear()  # Python asks the hooks only about folders that are not in this cache
        sys.addaudithook(self._guard)

    def _guard_loaders(self) -> None:
        """Install the check in the loaders of Python files: every import ends there, whichever finder found the module.

        A finder would not be enough: a script can change sys.meta_path, or make a loader itself.
        """
        source_code, source_data = SourceFileLoader.get_code, SourceFileLoader.get_data
        sourceless_code = SourcelessFileLoader.get_code
        zip_code, zip_module = zipimport.zipimporter.get_code, zipimport.zipimporter.load_module

        def get_code(loader: SourceFileLoader, fullname: str) -> types.CodeType | None:
            path = loader.get_filename(fullname)
            source = self._source(path)
            if source is not None:
                # Never from bytecode, which nobody compared. Python runs an unchecked .pyc whatever the source says, so
                # a program could plant one that runs in a later session.
                return self._compile(path, source)
            self._check(path)
            return source_code(loader, fullname)

        def get_data(loader: SourceFileLoader, path: str) -> bytes:
            source = self._source(path)
            return source_data(loader, path) if source is None else source

        def get_sourceless(loader: SourcelessFileLoader, fullname: str) -> types.CodeType | None:
            self._check(loader.get_filename(fullname))
            return sourceless_code(loader, fullname)

        def get_zipped(loader: zipimport.zipimporter, fullname: str) -> types.CodeType:
            self._check(loader.archive)
            return zip_code(loader, fullname)

        def load_zipped(loader: zipimport.zipimporter, fullname: str) -> types.ModuleType:
            self._check(loader.archive)
            return zip_module(loader, fullname)

        replacements: list[tuple[type, str, Any]] = [
            (SourceFileLoader, "get_code", get_code),
            (SourceFileLoader, "get_data", get_data),  # inspect.getsource() shows what runs
            (SourcelessFileLoader, "get_code", get_sourceless),
            (zipimport.zipimporter, "get_code", get_zipped),
            (zipimport.zipimporter, "load_module", load_zipped),  # it does not call get_code()
        ]
        for loader_class, name, method in replacements:
            setattr(loader_class, name, method)

    def _guard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Check what is loaded by C code, past the loaders. An audit hook cannot be removed."""
        if event == "import" and isinstance(arguments[1], str):  # only extension modules come with a file name
            self._check(arguments[1])
        elif event == "ctypes.dlopen" and arguments[0] is not None:
            path = os.fsdecode(arguments[0])
            if "/" in path:  # the system's loader finds a bare name in its own folders
                self._check(path, self._libraries)

    def _finder(self, folder: str) -> FileFinder:
        absolute = os.path.abspath(folder)
        if absolute not in self._folders and (not os.path.isdir(absolute) or _is_within(absolute, self._installed)):
            raise ImportError  # leaves this folder to Python's own finder
        return _Finder(folder, self._code)

    def _compile(self, path: str, source: bytes) -> types.CodeType:
        code = compile(source, path, "exec", dont_inherit=True)
        # Tracebacks show the lines that ran, even if the file has changed. linecache never rereads a file whose entry
        # has no modification time.
        text = importlib.util.decode_source(source)
        linecache.cache[path] = (len(source), None, text.splitlines(keepends=True), path)
        return code

    def _source(self, path: str) -> bytes | None:
        return self._code[path] if path in self._code else self._code.get(_real(path))

    # -- what may be loaded

    def _check(self, path: str, folders: Iterable[str] | None = None) -> None:
        """Check that a file may be loaded, because it lies in these folders (Python's by default) or was agreed on."""
        real = _real(path)
        if _is_below(real, self._installed if folders is None else folders) or real in self._code:
            return
        if _is_below(os.path.abspath(path), [*self._installed, *_installed()]) and _is_below(
            real, [*SYSTEM_LIBRARIES, *STORES]
        ):
            return  # a distribution's package that consists of links
        if real not in self._on_disk:
            name = _as_typed(path)
            raise NotAgreed(
                f"{name} is not among the files that the parties agreed on; if the program needs it, "
                f"every party adds --with {shlex.quote(_to_attach(name))}",
                path=path,
            )
        with open(real, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self._on_disk[real]:
                raise NotAgreed(f"{_as_typed(path)} changed after the parties had agreed on it", path=path)


class _Finder(FileFinder):
    """Finds the agreed modules of a folder, even if their files are gone; then everything else in it.

    It finds files that were not agreed on as well, so that the loader can refuse them by name and point at `--with`.
    """

    def __init__(self, folder: str, code: Mapping[str, bytes]) -> None:
        super().__init__(folder, *LOADERS)
        self._code = code

    def find_spec(self, fullname: str, target: types.ModuleType | None = None) -> ModuleSpec | None:
        place = os.path.join(os.path.abspath(self.path), fullname.rpartition(".")[2])
        paths = [os.path.join(place, "__init__.py"), f"{place}.py"]
        found = next((path for path in paths if path in self._code), None)
        spec = None if found else super().find_spec(fullname, target)
        if spec is None and found is None:
            # FileFinder lists the folder, and finds nothing if the walls forbid that. Look for the file itself, so that
            # it is refused by name here too.
            found = next(filter(os.path.isfile, paths), None)
        if found is not None:
            return importlib.util.spec_from_file_location(fullname, found, loader=SourceFileLoader(fullname, found))
        if spec is None and any(path.startswith(f"{place}/") for path in self._code):
            spec = ModuleSpec(fullname, None, is_package=True)  # a folder without __init__.py
            spec.submodule_search_locations = [place]
        return spec


def _installed() -> list[str]:
    """Return the folders of Python, of its distributions and of onionmpc, which may run from a checkout."""
    platform_library = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return [sysconfig.get_path("stdlib"), platform_library, *site.getsitepackages(), *user, str(PACKAGE)]


def _libraries_of_python() -> list[str]:
    return [os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)]


def _all_real(folders: Iterable[str]) -> list[str]:
    return [os.path.realpath(folder) for folder in folders]


def _real(path: str) -> str:
    """Return a path without symbolic links. Folders are resolved only once: numpy alone imports over 100 modules."""
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.join(_real_folder(folder), name)
    return os.path.realpath(real) if os.path.islink(real) else real


_real_folder = functools.cache(os.path.realpath)


def _is_within(path: str, folders: Iterable[str]) -> bool:
    return _is_below(f"{path}/", folders)


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)


def _as_typed(path: str) -> str:
    """Return a path as the user would type it."""
    try:
        here = os.getcwd()
    except OSError:  # the current folder was removed
        return path
    absolute = os.path.abspath(path)
    return os.path.relpath(absolute, here) if _is_below(absolute, [here]) else absolute


def _to_attach(path: str) -> str:
    """Return what to give to `--with`: the file, or the folder of a package."""
    folder, name = os.path.split(path)
    return folder if folder and name.partition(".")[0] == "__init__" else path
