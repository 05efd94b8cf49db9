"""The part of envsync that runs on servers, and in-process for the local end.

Stdlib only, Python 3.8: it is streamed over stdin and run from memory. What each room in it
knows, and which may import which, is in docs/architecture.md.
"""
