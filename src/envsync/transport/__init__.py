"""Ways to bring files' contents into a staging tree: stream, rsync, scp, direct."""
