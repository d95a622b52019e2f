"""The protocol without I/O: state table, upper layer, negotiation, exchange of messages (PS3.8, PS3.7)."""
