"""Which tor a party uses, at which level, and how long it waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.levels import Level
from onionmpc.tor.instance import QUESTION_S
from onionmpc.tor.process.bridges import Bridge


@dataclass(frozen=True, slots=True)
class TorTimings:
    """How often, and after how long, the network acts by itself. Only tests have reason to change these.

    Attributes:
        question_s: how often tor is asked whether it is there, and how long it may take to answer.
        silent_s: a dial that waits for so long is one beside which another is dialled (MeshTimings.next_dial_s). Those
            of a race begin at the same time, and to fetch a descriptor again costs tor work.
        refresh_every_s: how often to check whether our service is lost.
        new_service_s: how long a new service may take to have its descriptor at all directories. It has introduction
            points long before. After an outage tor can leave it without these for minutes, and peers' tors do not try
            again for two minutes what they have tried in vain: others are needed soon.
    """

    question_s: float = QUESTION_S
    silent_s: float = 2.0
    refresh_every_s: float = 15.0
    new_service_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TorOptions:
    """Which tor, and how long to wait for it.

    Attributes:
        control: "unix:PATH" or "127.0.0.1:PORT" of a tor that runs already; None for one of our own.
        listen: "ADDRESS:PORT" where that tor is to bring us its streams; None to choose a place that it can reach.
        profile: name of the directory in which our own tor keeps its guards; None for the first free one.
        profiles: where these directories are, mode 0700; None for the state directory. A private network needs its
            own: a guard drawn there does not exist on the public network.
        extra_torrc: lines for our own tor.
        bridges: by which our own tor enters its network, and by nothing else; none for a guard.
        bootstrap_timeout_s: from tor's start to a built circuit.
        publish_timeout_s: from then to a descriptor that a directory took.
        patience_s: how long tor may be away in one outage; the first start has no such patience.
        level: how long our side of every circuit must be.
        or_standard: continue at that level where "long" cannot be had.
        change_foreign_tor: whether the settings of a tor that runs already may be changed, until we leave.
        timings: see there.
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
        """Refuse what cannot be had, and what would have no effect."""
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
            # Its second tor has no guard, hence no bridge in a guard's place.
            raise UsageError(
                "circuit length short goes past every bridge: the service connects straight to public relays",
                hint="leave out --bridge, or --circuit-length short",
            )
        if self.level is Level.LONG and self.control and not (self.change_foreign_tor or self.or_standard):
            raise UnsafeSetting(
                "long changes the circuits of everyone who uses the tor at --control, and you did not allow that",
                hint="add --change-foreign-tor to allow it until this party leaves; our own tor needs no permission",
            )
