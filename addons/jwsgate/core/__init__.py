"""The decision: no I/O, no clock, no proxy."""
