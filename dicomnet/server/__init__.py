"""The server framework: a server is its settings, its add-ins, and the services beneath them."""
