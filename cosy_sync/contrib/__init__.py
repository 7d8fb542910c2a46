"""Glue for frameworks, a module each; none is imported with the library."""
