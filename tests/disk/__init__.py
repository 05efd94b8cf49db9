"""A disk whose power can be cut and which can fail: a real ext4 on a real block device.

    ext4 -> /dev/loopN -> one file of a FUSE filesystem -> a process of ours

That process remembers each write and each flush, so that afterwards the disk can become what
a power cut at any moment would have left of it; and it can answer with errors.
"""
