"""The app: a page in the browser of this machine, served by the process that owns tor and the sessions.

Knows HTTP, tokens and the files of the page. Does not know terminals, nor what happens in a session: a `Desk` does.
"""
