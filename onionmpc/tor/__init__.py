"""The only code that talks to tor: a Network for the mesh.

    network.py      TorNetwork composes everything below; tor_network runs it
    options.py      which tor, which level, how long to wait; report.py: what the network reports
    instance.py     one tor, ours or one that runs already, until it is lost; restarter.py starts the next one
    endpoint.py     a unix socket or a port of this machine

    process/        a tor of our own: its program, torrc, profile, bridges, process and log
    control/        a control connection: what listens there, logging in, commands, events, the bootstrap
    circuit/        how long our side of a circuit is: layer guards, their pinning, measuring, the level
    service/        our onion service: adding it, its descriptor, publishing it again
    dialling/       dialling a peer, and what tor knows of the peer's descriptor
    adapters/       the one door to each library: txtorcon, stem, python-socks

The first and each later instance are set up in this order: start or log in, bootstrap, set the level, add the service
(whose paths the level decides). The restarter then offers the instance to the publisher and the dialler.
"""
