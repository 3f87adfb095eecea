"""Fixtures for links and meshes."""

from tests.support.mesh import private_directory

__all__ = ["private_directory"]
