"""The command line: options in, an experiment run, its files written and its table printed."""
