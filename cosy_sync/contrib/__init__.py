"""Where the client meets frameworks: one module for each, imported by whoever uses it."""
