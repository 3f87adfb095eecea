"""The Python API. Its public names are those of `import onionmpc`; the package's own docstring explains them."""
