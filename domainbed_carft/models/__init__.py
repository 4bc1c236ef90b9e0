"""CLIPs: loaded, run in a precision, frozen, and their features and prompts remembered."""
