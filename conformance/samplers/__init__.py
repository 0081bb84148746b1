"""Samplers of models whose own class has none: one module for each, told to an observer step by step."""
