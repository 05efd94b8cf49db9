"""Any directory tree: passes over it, hashes, the content cache, its contents as a stream.

Nothing here knows where an environment and its versions are, or which of them is which.
"""
