"""Sets the party's level in each tor instance, and keeps it set.

pinning.py draws and sets layer guards; lengths.py measures lengths.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from onionmpc.errors import TorError, UnsafeSetting, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.tor.circuit.lengths import Lengths
from onionmpc.tor.circuit.pinning import LayerStore, Pinning, check_pinning, pinned_layers
from onionmpc.tor.instance import TorInstance
from onionmpc.tor.report import Reporter


class LevelKeeper:
    """Keeps one level over one tor instance after the other.

    Args:
        lengths: enforces the level.
        store: keeps the layer guards; None if this tor's settings must not be changed.
        or_standard: whether the first instance may fall back from long to standard.
    """

    def __init__(self, lengths: Lengths, store: LayerStore | None, reporter: Reporter, *, or_standard: bool) -> None:
        self._lengths = lengths
        self._store = store
        self._reporter = reporter
        self._may_fall_back = or_standard

    @contextlib.asynccontextmanager
    async def kept(self, instance: TorInstance, onion: Onion) -> AsyncIterator[None]:
        """Set the level in this instance, and enforce it for every circuit to our service.

        Raises:
            UnsafeSetting: the tor has settings that the level does not allow.
            TorError, UsageError: the level is not possible.
        """
        async with contextlib.AsyncExitStack() as held:
            pinning: Pinning | None = None
            if self._lengths.level is Level.LONG:
                pinning = await self._pinned_or_standard(instance, held)
            if self._lengths.level is Level.STANDARD and instance.own is None:
                await check_pinning(instance.control)
            self._may_fall_back = False  # by the next instance, the parties may have agreed on this level
            repair = None if pinning is None else pinning.apply
            await held.enter_async_context(self._lengths.watching(instance.tors[-1].control, onion, repair))
            yield

    async def _pinned_or_standard(self, instance: TorInstance, held: contextlib.AsyncExitStack) -> Pinning | None:
        try:
            if self._store is None:
                raise UnsafeSetting("this tor may not be changed")
            await self._lengths.require_measure(instance.control)
            return await held.enter_async_context(
                pinned_layers(instance.control, self._store, self._reporter.warn, foreign=instance.own is None)
            )
        except (TorError, UsageError) as error:
            if not self._may_fall_back:
                raise
            self._reporter.tor(0, f"{error.message}; continuing at standard, as you allowed")
            self._lengths.fall_back_to_standard()
            return None
