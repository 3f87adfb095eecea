"""The one door to each library: txtorcon, stem and python-socks."""
