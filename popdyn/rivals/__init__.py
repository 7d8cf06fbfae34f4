"""Methods that are no inverse optimization, through the door that plug-ins come in by."""
