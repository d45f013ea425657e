"""The commands of `inferctl`, a module each."""
