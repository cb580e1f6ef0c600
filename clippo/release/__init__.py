"""Parts of a release beside the packages: the table of models, folders for the hub, a check of an installation."""
