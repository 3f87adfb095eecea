"""Makes the keys of a directory authority with tor's own tools.

Knows tor-gencert, and how to make tor print a fingerprint. Does not know when an authority votes (network.py).
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from onionmpc.errors import TorFailed, TorNotFound
from onionmpc.files import private_directory, write_private
from onionmpc.testnet.relay import Relay
from onionmpc.testnet.status import read_text
from onionmpc.tor.process.binary import TOR_UMASK, cannot_start, environment_of_tor, tor_install_hint

KEYGEN_TIMEOUT_S = 120.0
# A certificate lasts 12 months. Keys that are older than this are replaced.
KEYS_LAST_S = 300 * 24 * 3600


def make_authority_keys(tor: Relay, program: Path) -> None:
    """Make the keys of an authority if it has none, and note its fingerprints."""
    keys = private_directory(tor.directory / "keys")
    certificate = keys / "authority_certificate"
    if not certificate.exists() or time.time() - certificate.stat().st_mtime > KEYS_LAST_S:
        gencert = shutil.which("tor-gencert", path=str(program.parent)) or shutil.which("tor-gencert")
        if gencert is None:
            raise TorNotFound("tor is installed, but tor-gencert is not", hint=tor_install_hint())
        for name in ("authority_identity_key", "authority_signing_key", "authority_certificate"):
            (keys / name).unlink(missing_ok=True)
        # Without -a: an address in the certificate would override the ports that the kernel gives us next time.
        # The passphrase is no secret: the key that it protects is of use in this directory's network only.
        arguments: list[str | Path] = [gencert, "--create-identity-key", "-m", "12", "--passphrase-fd", "0"]
        arguments += ["-i", keys / "authority_identity_key", "-s", keys / "authority_signing_key", "-c", certificate]
        _run(arguments, "loopback\n")
    fields = dict(line.split(" ", 1) for line in read_text(certificate).splitlines() if " " in line)
    tor.v3_identity = fields["fingerprint"]
    # tor refuses `-f /dev/null`, and an authority that knows no authorities. So it gets an empty file, and a fake one.
    empty = tor.directory / "empty.torrc"
    write_private(empty, b"")
    arguments = [program, "-f", empty, "--DataDirectory", tor.directory, "--ORPort", str(tor.or_port), "--quiet"]
    arguments += ["--Nickname", tor.nickname, "--GeoIPFile", "/dev/null", "--GeoIPv6File", "/dev/null"]
    arguments += ["--DirAuthority", f"x no-v2 v3ident={'F' * 40} orport=1 127.0.0.1:2 {'F' * 40}", "--list-fingerprint"]
    tor.fingerprint = "".join(_run(arguments, "").split()[1:])


def _run(arguments: list[str | Path], text: str) -> str:
    name = Path(arguments[0]).name
    try:
        return subprocess.run(
            arguments,
            input=text,
            env=environment_of_tor(),
            umask=TOR_UMASK,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=KEYGEN_TIMEOUT_S,
            check=True,
        ).stdout
    except OSError as error:
        raise cannot_start(Path(arguments[0]), error) from error
    except subprocess.SubprocessError as error:
        words = (getattr(error, "stderr", None) or "").strip().rpartition("\n")[2]
        raise TorFailed(
            f"{name} made no keys ({words or type(error).__name__})", hint="check whether the disk is full"
        ) from error
