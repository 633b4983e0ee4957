"""The subcommands of `scopevit`, one module each."""
