"""Code that commands share: reading of a call (help, options, config file, wrong guesses), progress, and writing."""
