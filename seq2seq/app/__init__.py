"""The commands: Hydra, exit codes, and the options that several commands share."""
