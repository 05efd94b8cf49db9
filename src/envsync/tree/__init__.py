"""What an environment is made of, and what a push has to do: pure values, no I/O.

Part of the agent: stdlib only, Python 3.8.
"""
