"""The demo's report: one HTML page with its numbers, its pictures and every sentence to play."""

from cosy_sync.cli.report.demo import render
from cosy_sync.cli.report.run import Row, Summary

__all__ = ["Row", "Summary", "render"]
