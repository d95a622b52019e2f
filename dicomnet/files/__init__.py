"""Where the bytes of a data set come from and go: Part 10 files, sources and sinks (PS3.10)."""
