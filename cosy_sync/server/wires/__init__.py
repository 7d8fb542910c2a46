"""What the server speaks beside the batch wire: one wire per file, each under its own paths."""
