"""What a release needs beside the packages: the table of models, folders for the hub, a check of an installation."""
