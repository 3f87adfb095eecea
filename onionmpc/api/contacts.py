"""The contacts of this machine's user: their own names for addresses, never sent, and never taken from a peer.

`onionmpc contact` changes them. How they are stored: `onionmpc.names.contacts`.
"""

from __future__ import annotations

from collections.abc import Mapping

from onionmpc.names.address_book import AddressBook as AddressBook
from onionmpc.names.address_book import Contact as Contact
from onionmpc.names.address_book import nearest_hint as nearest_hint
from onionmpc.names.contacts import load_book as load_book
from onionmpc.names.contacts import note_meeting as note_meeting


def contacts() -> Mapping[str, Contact]:
    """Return this user's contacts by name, as `onionmpc contact add` keeps them.

    Nothing else in the Python API takes a name: pass `contacts()["acme"].onion`.

    Raises:
        UsageError: the file of contacts is damaged, or other users can read it.
    """
    return load_book().contacts
