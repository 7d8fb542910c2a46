"""The peers: one module each, written as its own users would write it.

A module has one function for each case that it takes part in, named after the case and called
with (task, meter): `transport`, `single`, `texts`, `paced`. Modules are imported by workers only,
so a peer that is not installed fails alone.
"""
