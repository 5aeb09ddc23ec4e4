"""The command line: Hydra, exit codes, options that several commands share."""
