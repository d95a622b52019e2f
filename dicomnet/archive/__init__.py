"""The archive: storage, query, retrieval and storage commitment over a repository, as services of a listener."""
