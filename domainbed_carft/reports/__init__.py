"""Tables, plots and report pages."""
