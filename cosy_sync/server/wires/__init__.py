"""The wires beside `batch` that the server speaks, one a file."""
