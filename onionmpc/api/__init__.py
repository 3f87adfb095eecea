"""The public Python API. `import onionmpc` offers it; see there."""
