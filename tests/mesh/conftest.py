"""Fixtures for links and meshes."""

from tests.support.mesh import doubt_soon, private_directory

__all__ = ["doubt_soon", "private_directory"]
