"""What commands share: how a call is read (help, options, config file, wrong guesses), progress, and writing."""
