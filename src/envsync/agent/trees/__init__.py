"""What stands in a directory tree: passes over it, hashes, the content cache, a tree's contents.

Any tree: nothing here knows of environments, versions or pushes.
"""
