"""The workstation: receives, asks remote archives, and retrieves by a queue; the viewer shows what it holds."""
