"""A host: the layers wired together, and networks of hosts."""
