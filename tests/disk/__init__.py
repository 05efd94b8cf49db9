"""A disk whose power can be cut and that can fail: a real ext4 on a real block device.

    ext4 -> /dev/loopN -> one file of a FUSE filesystem -> a process of ours

That process records each write and each flush, so that the disk can be turned into what a power
cut at any moment would have left. It can also answer with errors.
"""
