"""The server sides of the wires other than `batch`."""
