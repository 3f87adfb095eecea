"""All errors that a user may see, sorted by who can fix them::

    OnionMPCError
      UsageError               the person running this (exit 2)
        InvalidAddress           an onion address that cannot be an identity
        InvalidInvite            an invite that was cut short or altered
        InvalidBridge            text that is not a bridge line
        InvalidIdentityFile      a key file that cannot be used
        InvalidReceipt           a file that is not a receipt
        InvalidEvidence          a statement, signature or certificate that proves nothing
        InvalidPosting           a page that does not post addresses
        UnsafeSetting            a setting that would break a promise of the project
        SystemRefused            the operating system refused: a full disk, a mode, a limit
      TorError                 the tor that we use (exit 3)
        TorNotFound, TorTooOld, TransportNotFound, TorFailed, ControlRefused, BootstrapTimeout, OnionNotPublished
      PeerError                a party (exit 4)
        PeerUnreachable          it could not be dialled
          NotExpected              only the parties that it expects can find it
        SiteFailed               the site on which it posts its address gave no page
        LinkExpired              it was there and is gone
        PeerLeft                 it reported that it leaves
      AgreementError           the parties do not agree on what to run (exit 5)
        VersionDiffers           they speak different versions of the protocol
      ProtocolError            the rules
        LocalProtocolError       our own bug (exit 70)
        RemoteProtocolError      a peer broke them (exit 6)
          AuthenticationFailed     a peer could not prove its key, or does not accept us (exit 6)
      ProgramError             the MPyC program (exit 1)

Every error says what was seen and what was expected, in lower case and without a secret. `hint` says how to fix it.
Exit codes: docs/PROTOCOL.md section 5.
"""

from __future__ import annotations

from typing import ClassVar

from onionmpc import __version__

OTHERS_GONE = "the other parties have left, so there is no further computation"


class OnionMPCError(Exception):
    """Base of all errors that a user may see.

    Args:
        message: what was seen and what was expected.
        hint: what the reader can do about it, or an empty string.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OnionMPCError):
    """The user asked for something impossible."""

    exit_code = 2


class InvalidAddress(UsageError):
    """An onion address that cannot be an identity."""


class InvalidInvite(UsageError):
    """An invite that was cut short, altered or is of another version."""


class InvalidBridge(UsageError):
    """Text that is not a bridge line."""


class InvalidIdentityFile(UsageError):
    """A key file that is missing, unreadable, too open or not ours."""


class InvalidReceipt(UsageError):
    """A file that is not a receipt, or that no party can have written."""


class InvalidEvidence(UsageError):
    """A statement, signature or certificate that is damaged, or proves nothing here."""


class InvalidPosting(UsageError):
    """A page that does not post addresses as docs/reference/files.md says."""


class UnsafeSetting(UsageError):
    """A setting that would break a promise of the project."""


class SystemRefused(UsageError):
    """The operating system refused: a disk is full, a mode forbids it, a limit is reached."""


class TorError(OnionMPCError):
    """The tor that we use, or our connection to it."""

    exit_code = 3


class TorNotFound(TorError):
    """No tor program on this machine."""


class TorTooOld(TorError):
    """A tor that lacks what we rely on."""


class TransportNotFound(TorError):
    """No program for a pluggable transport on this machine."""


class TorFailed(TorError):
    """A tor that did not start, or ended."""


class ControlRefused(TorError):
    """A control port that is not there, is not tor, or does not let us in."""


class BootstrapTimeout(TorError):
    """A tor that did not reach its network in time."""


class OnionNotPublished(TorError):
    """An onion service whose descriptor no directory accepted in time."""


class PeerError(OnionMPCError):
    """Another party is away."""

    exit_code = 4


class PeerUnreachable(PeerError):
    """A party could not be dialled."""


class NotExpected(PeerUnreachable):
    """A party's descriptor is sealed, and no key of ours opens it."""


class SiteFailed(PeerError):
    """A web site could not be reached, did not prove its name, or gave no page."""


class LinkExpired(PeerError):
    """A party was there and is gone."""


class PeerLeft(PeerError):
    """A party reported that it leaves."""


class SessionOver(PeerLeft):
    """The session has ended well: there is nobody left to propose, or to take part in, a further computation."""


class AgreementError(OnionMPCError):
    """The parties do not agree on what to run."""

    exit_code = 5


class VersionDiffers(AgreementError):
    """A peer speaks another version of the protocol. It has broken no rule.

    Args:
        theirs, ours: versions of the protocol.
        there, here: what to call the two parties, such as "party 0" and "party 2".
    """

    def __init__(self, theirs: int, ours: int, *, there: str = "the peer", here: str = "this party") -> None:
        super().__init__(
            f"different versions of onionmpc: {there} speaks protocol {theirs}, "
            f"{here} (onionmpc {__version__}) protocol {ours}",
            hint="install the newer release at the party that has the older one, and start again",
        )
        self.theirs = theirs
        self.ours = ours


class ProtocolError(OnionMPCError):
    """The rules of docs/PROTOCOL.md were broken."""


class LocalProtocolError(ProtocolError):
    """We broke them: a bug of ours."""

    exit_code = 70


class RemoteProtocolError(ProtocolError):
    """A peer broke them."""

    exit_code = 6


class AuthenticationFailed(RemoteProtocolError):
    """A peer could not prove its key, or does not accept us."""


class ProgramError(OnionMPCError):
    """The MPyC program failed, here or at another party."""

    exit_code = 1
