"""Observers for monitoring systems; each imports its library on first use."""

from .opentelemetry import OpenTelemetryObserver
from .prometheus import PrometheusObserver

__all__ = ["OpenTelemetryObserver", "PrometheusObserver"]
