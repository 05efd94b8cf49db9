"""The part of envsync that runs on servers, and in-process for the local end.

It uses only the standard library of Python 3.8 or newer, and is streamed over stdin and run from
memory. docs/architecture.md describes its subpackages, and which may import which.
"""
