"""Observers for monitoring systems; each imports its library on first use."""

from .prometheus import PrometheusObserver

__all__ = ["PrometheusObserver"]
