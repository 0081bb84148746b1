"""Drafting: the first spec of an adapter, from a model folder, with what could not be told left as questions."""
