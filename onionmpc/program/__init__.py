"""Programs of the parties: what a program is, the process that it runs in, and the walls around that process.

code/       what a program is: finds it, reads its files once, computes its digest, runs only what was agreed on
process/    launch.py starts and watches child.py, the program process; in it, mpyc_seam.py connects MPyC; hello.py
            checks MPyC's bytes from peers; waiting.py and stuck.py find programs that wait for each other
walls/      reachable.py decides what a program may open; build.py builds walls of namespaces, Landlock and seccomp;
            guard, refusals, asked and stand_ins explain them to the script and the user; probe.py finds out which
            walls this machine can build
pickles/    what a peer's message may contain: opcodes.py measures it, unpickle.py rebuilds it
spec.py     the messages between the supervisor and the program process
pump.py     moves bytes between a link and the program process
rehearsal.py  a dry run of all parties on this machine, for `estimate`
values.py   converts numbers of numpy and MPyC for pickles. Pickles name this module, so it must not move
"""
