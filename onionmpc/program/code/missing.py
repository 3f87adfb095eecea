"""Finds packages that a program imports but this Python lacks, before a session starts, and says how to install them.

Knows import statements and where Python finds a module. Reports a package only if its import must fail: an import
inside `try`, a branch or a function may fail on purpose.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from onionmpc.errors import UsageError
from onionmpc.program.code.sources import Source

# Packages whose name differs from the module's.
PACKAGE_NAMES = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# A program that contains one of these may find modules where we do not look, so we report nothing.
CHANGES_IMPORTS = (b"sys.path", b"importlib", b"meta_path", b"site.add")


def check_installed(sources: Mapping[Path, Source], folder: Path) -> None:
    """Check that everything that a program's files import is installed.

    Args:
        sources: the program's files, by path.
        folder: the folder of the program's own modules.

    Raises:
        UsageError: a package is not installed.
    """
    if any(word in source.content for source in sources.values() for word in CHANGES_IMPORTS):
        return
    for path, source in sources.items():
        for name in source.required:
            if not _is_installed(name, folder):
                raise UsageError(
                    f"{path.name} imports {name}, which is not installed for the Python that runs it",
                    hint=package_hint(name),
                )


def package_hint(module: str) -> str:
    """Return the command that installs a module's package into the Python that runs programs."""
    package = PACKAGE_NAMES.get(module, module)
    if "pipx" in Path(sys.prefix).parts:
        return f"pipx inject onionmpc {package}"
    return f"{sys.executable} -m pip install {package}"


def hint_for(error: ModuleNotFoundError) -> str:
    """Return a hint for an import that failed while a program ran; empty if it named no package."""
    name = error.name or ""
    if not name or "." in name or name in sys.stdlib_module_names:
        return ""
    return f"if {name} is a package, install it for the Python that runs programs: {package_hint(name)}"


def _is_installed(name: str, folder: Path) -> bool:
    if name in sys.stdlib_module_names or (folder / name).is_dir() or any(folder.glob(f"{name}.*")):
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # find_spec() refuses a module that is loaded and has no spec
        return True
