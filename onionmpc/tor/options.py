"""Which tor a party uses, at which level, and how long it waits for that tor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.levels import Level
from onionmpc.tor.instance import QUESTION_S
from onionmpc.tor.process.bridges import Bridge


@dataclass(frozen=True, slots=True)
class TorTimings:
    """How often, and after how long, the network acts by itself. Only tests change these.

    Attributes:
        question_s: how often we ask tor whether it is there, and how long it may take to answer.
        silent_s: if an earlier dial to the same peer has waited this long, a new dial has tor fetch the descriptor
            again. It is less than `MeshTimings.next_dial_s`, so that an earlier try counts. The dials of a race begin
            together and do not count, since each fetch costs tor work.
        refresh_every_s: how often to check whether our service is lost.
        new_service_s: how long a new service may take until all directories have its descriptor. Until then, only its
            introduction points are checked, which it has long before. After an outage tor can leave it without any for
            minutes, and peers' tors do not retry for two minutes those that failed, so new ones are needed soon.
    """

    question_s: float = QUESTION_S
    silent_s: float = 2.0
    refresh_every_s: float = 15.0
    new_service_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TorOptions:
    """Which tor to use, and how long to wait for it.

    Attributes:
        control: "unix:PATH" or "127.0.0.1:PORT" of a tor that runs already; None for one of our own.
        listen: "ADDRESS:PORT" to which that tor should connect its streams; None to choose a place that it can reach.
        profile: name of the directory in which our own tor keeps its guards; None for the first free one.
        profiles: the folder of these directories, mode 0700; None for the state directory. A private network needs its
            own: a guard drawn there does not exist on the public network.
        extra_torrc: lines for our own tor.
        bridges: the only relays by which our own tor enters its network; empty to use a guard.
        bootstrap_timeout_s: from tor's start to a built circuit.
        publish_timeout_s: from then until a directory has accepted our descriptor.
        patience_s: how long tor may be away in one outage. A first start that fails is not repeated.
        level: how long our side of every circuit must be.
        or_standard: continue at standard if long is not possible.
        change_foreign_tor: whether we may change the settings of a tor that runs already, until we leave.
        timings: see `TorTimings`.
    """

    control: str | None = None
    listen: str | None = None
    profile: str | None = None
    profiles: Path | None = None
    extra_torrc: str = field(default="", repr=False)
    bridges: tuple[Bridge, ...] = ()
    bootstrap_timeout_s: float = 180.0
    publish_timeout_s: float = 120.0
    patience_s: float = 600.0
    level: Level = Level.STANDARD
    or_standard: bool = False
    change_foreign_tor: bool = False
    timings: TorTimings = field(default_factory=TorTimings)

    def __post_init__(self) -> None:
        """Refuse what is impossible, and what would have no effect."""
        if self.or_standard and self.level is not Level.LONG:
            raise UsageError("--or-standard needs --circuit-length long", hint="the other levels are always possible")
        if self.change_foreign_tor and (self.control is None or self.level is not Level.LONG):
            raise UsageError("--change-foreign-tor needs --control and --circuit-length long", hint="leave it out")
        if self.listen is not None and self.control is None:
            raise UsageError("--listen needs --control", hint="our own tor uses a socket that nobody else can reach")
        if self.level is Level.SHORT and self.control is not None:
            raise UsageError("circuit length short needs a tor that onionmpc starts itself", hint="leave --control out")
        if self.bridges and self.control is not None:
            raise UsageError(
                "a running tor has its own bridges, or none",
                hint="put bridges in its torrc; leave out --bridge, or --control",
            )
        if self.bridges and self.level is Level.SHORT:
            # A bridge takes the place of a guard, and the second tor of this level has none.
            raise UsageError(
                "circuit length short goes past every bridge: the service connects straight to public relays",
                hint="leave out --bridge, or --circuit-length short",
            )
        if self.level is Level.LONG and self.control and not (self.change_foreign_tor or self.or_standard):
            raise UnsafeSetting(
                "long changes the circuits of everyone who uses the tor at --control, and you did not allow that",
                hint="add --change-foreign-tor to allow it until this party leaves; our own tor needs no permission",
            )
