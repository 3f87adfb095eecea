"""Programs of the parties: what one is, the process that it runs in, and the walls around that process.

code/       what a program is: finding it, reading its files once, its digest, --with, running only what was agreed
process/    launch.py starts child.py and watches it; mpyc_seam.py in it connects MPyC; hello.py checks MPyC's
            bytes on their way; waiting.py and stuck.py find programs that wait for each other
walls/      reachable.py says what a program may open; build.py builds walls of namespaces, landlock and seccomp;
            guard, refusals, asked and stand_ins explain them to the script and its person; probe.py finds out how
            far this machine can go
pickles/    what a peer's message may hold: opcodes.py measures it, unpickle.py rebuilds it
spec.py     what the supervisor and the program process say to each other
pump.py     bytes between a link and the program process
rehearsal.py  a dry run of all parties on this machine, for `estimate`
values.py   numbers of numpy and MPyC taken apart. Peers name this module in their pickles, so it stays where it is
"""
