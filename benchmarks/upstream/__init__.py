"""The upstream: nginx with the echo module, or the embedded server where that is missing."""

from benchmarks.upstream.serving import Upstream, open_upstream

__all__ = ["Upstream", "open_upstream"]
