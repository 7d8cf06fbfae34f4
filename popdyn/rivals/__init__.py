"""Methods that are no inverse optimization, held against those that are."""
