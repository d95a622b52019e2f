"""The client framework: what an application that queries, retrieves and stores is built from."""
