"""The only code that speaks to tor: a Network for the mesh.

    network.py      TorNetwork composes all that follows; tor_network runs it
    options.py      which tor, which level, how long to wait; report.py: what the network reports
    instance.py     one tor, ours or one that runs already, until it is lost; restarter.py starts the next
    endpoint.py     a unix socket or a port of this machine

    process/        a tor of our own: its program, torrc, profile, bridges, process and log
    control/        a control connection: what listens there, logging in, commands, events, the bootstrap
    circuit/        how long our side of a circuit is: layer guards, their pinning, measuring, the level
    service/        our onion service: adding it, its descriptor, publishing it again
    dialling/       dialling a peer, and what our tor knows of the peer's descriptor
    adapters/       the one door to each library: txtorcon, stem, python-socks

An instance is set up in this order, the first and each later one alike: start or log in, bootstrap, set the level, add
the service. The restarter then offers it to the publisher and the dialler.
"""
