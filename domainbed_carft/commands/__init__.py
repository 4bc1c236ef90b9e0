"""One module per subcommand of ``carft``."""
