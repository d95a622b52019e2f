"""The console: pages over the servers of this machine, for browsers; each action is one of the admin interface."""
