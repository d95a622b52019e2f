"""The add-ins that ship with the server, each an example to read."""
