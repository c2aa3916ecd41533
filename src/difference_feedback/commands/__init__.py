"""One file a command. Each imports what is heavy when it runs, so that `--help` answers at once."""
