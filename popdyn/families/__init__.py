"""What can be learned for a term: functions that it is linear in, and networks."""
