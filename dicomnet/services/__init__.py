"""The services of PS3.4 as user and as provider, each written once as a generator over an exchange."""
