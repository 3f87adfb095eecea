"""`python -m onionmpc.cli` is `onionmpc`."""

from onionmpc.cli.main import main

main()
