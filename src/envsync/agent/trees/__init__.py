"""What stands in a directory tree: passes over it, hashes, the content cache, a tree's contents.

Any tree: nothing here knows where an environment and its versions stand, or which of them is
which. Only what a full or broken disk is told as (`storage`) speaks of the push that met it.
"""
