# Empty on purpose: a conftest.py here puts the repository root on sys.path for a plain `pytest` too.
