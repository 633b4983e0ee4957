"""The subcommands of the console script, one file each: arguments and one call."""
