"""What the blocking and the asyncio face share: TLS, socket options, buffers."""
