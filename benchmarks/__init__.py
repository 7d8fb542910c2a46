"""Benchmarks: each module that README.md names is one command, one table, one JSON file."""
