"""Situations in which servers differ most, each measured on a server that has just been started."""
