"""`python -m envsync`: the command, for whoever knows the interpreter and not the script."""

from envsync.cli import main

if __name__ == "__main__":
    main()
