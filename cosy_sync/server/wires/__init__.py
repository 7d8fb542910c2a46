"""The server's side of each wire but `batch`: a file per wire, with its routes."""
