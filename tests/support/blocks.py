"""Scripts with a block of metadata."""

from __future__ import annotations


def script_of(toml: str) -> str:
    """Return a script whose block has these lines, the first of which is line 4."""
    commented = "".join(f"# {line}\n" if line else "#\n" for line in toml.split("\n"))
    return f"import mpyc\n\n# /// script\n{commented}# ///\n"


SALARY_INPUT = """\
[[tool.onionmpc.input]]
name = "salary"
label = "Your monthly gross salary"
type = "integer"
unit = "EUR"
min = 0
max = 1_000_000_000
warn-min = 500
warn-max = 50_000
warning = "monthly, not yearly?"
"""
EVERY_KEY = script_of(
    f"""\
requires-python = ">=3.11"
dependencies = ["mpyc>=0.11", "numpy"]

[tool.onionmpc]
version = 1
title = "Every key"
reveals = "nothing to anyone"
min-parties = 3
threshold = 1
packages = "equal"

[[tool.onionmpc.public]]
name = "candidates"
label = "Candidates, separated by commas"
type = "text"
many = true
min-count = 2
max-count = 10
max-length = 30

[[tool.onionmpc.public]]
name = "rounds"
label = "Rounds"
type = "integer"
option = "--rounds"
optional = true

[[tool.onionmpc.input]]
name = "vote"
label = "Your vote"
type = "choice"
choices-from = "candidates"

{SALARY_INPUT}
[[tool.onionmpc.input]]
name = "share"
label = "Your share"
type = "decimal"
min = 0.05
max = 1
places = 2

[[tool.onionmpc.input]]
name = "sure"
label = "Are you sure?"
type = "yes/no"

[[tool.onionmpc.input]]
name = "letter"
label = "A letter"
help = "Any format."
type = "file"
max-bytes = 1000
give = "file"
option = "--letter"

[[tool.onionmpc.input]]
name = "rows"
label = "Your rows"
type = "table"
columns = ["age", "income"]
cells = "integer"
min = -5
max = 5
min-rows = 2
max-rows = 9
max-bytes = 1000

[tool.onionmpc.output]
type = "pairs"
label = "Votes"
unit = "votes"
chart = "bars"
"""
)
