"""Parts of the stand-in that its scripts share."""
