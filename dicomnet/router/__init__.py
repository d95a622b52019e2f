"""The router: takes in everything, and passes it on by rules, through queues that lose nothing.

`Router` serves a directory with two files: ``router.toml`` says where it listens and where its spool is,
``rules.toml`` what becomes of what arrives. Nothing here knows another application.
"""
