"""Endpoints: their limits, breakers and load, and which of them takes the next attempt."""
