"""Pure values, without I/O: what an environment consists of, and what a push has to do.

Part of the agent: stdlib only, Python 3.8 or newer.
"""
