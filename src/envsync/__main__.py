"""`python -m envsync`: the command, where the script is not on the PATH."""

from envsync.cli import main

if __name__ == "__main__":
    main()
