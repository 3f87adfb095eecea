"""One page of a web site, over Tor: the only streams of ours that leave Tor by an exit relay.

    site.py    a site, by its domain
    dial.py    a stream to it through tor's SOCKS port; the exit relay resolves the name
    https.py   TLS and HTTP over a connected socket; does not know tor
    fetch.py   our own tor for one page

It is part of tor/, because everything that leaves this machine through tor leaves from here. Nothing above sees a
socket, and a page is bytes to this folder: onionmpc.names.posting reads it.
"""
