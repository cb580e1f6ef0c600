"""`python -m clippo`: the console command in a checkout that is not installed."""

from clippo.cli import main

if __name__ == "__main__":
    main()
