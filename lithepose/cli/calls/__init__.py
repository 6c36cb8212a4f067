"""How the command line reads a call: help, options of every command, the config file, wrong guesses."""
