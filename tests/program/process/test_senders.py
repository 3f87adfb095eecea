"""The sender of a refused pickle is found."""

from __future__ import annotations

from typing import Any

import pytest

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process import senders as module
from onionmpc.program.process.senders import Senders, StoppingPickle
from onionmpc.program.spec import Notice


class Stopped(Exception):
    """Takes the place of the end of the process."""


class StoppedSupervisor:
    """Records the notice."""

    notice: Notice | None = None

    def stop(self, notice: Notice) -> None:
        self.notice = notice
        raise Stopped


class Refusing:
    """Refuses one payload."""

    def dumps(self, obj: object) -> bytes:
        return repr(obj).encode()

    def loads(self, data: bytes) -> object:
        if data == b"bad":
            raise RemoteProtocolError("it names os.system")
        return data.decode()


def test_only_the_senders_of_recent_payloads_are_remembered() -> None:
    senders = Senders()
    for number in range(module.REMEMBERED_PAYLOADS + 1):
        senders.remember(str(number).encode(), number % 25)
    assert senders.find(b"0") is None
    assert senders.find(b"1") == 1
    assert senders.find(b"never") is None


@pytest.mark.parametrize("sender", [2, None])
def test_a_refused_pickle_ends_the_process_and_names_its_sender_if_known(sender: int | None) -> None:
    senders, supervisor = Senders(), StoppedSupervisor()
    if sender is not None:
        senders.remember(b"bad", sender)
    stopping: Any = StoppingPickle(Refusing(), senders, supervisor)  # type: ignore[arg-type]
    assert stopping.loads(stopping.dumps(7)) == "7"
    with pytest.raises(Stopped):
        stopping.loads(b"bad")
    assert supervisor.notice == Notice("pickle", sender, "it names os.system")
