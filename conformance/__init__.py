"""Conformance tests for TransformerLens bridge adapters of diffusion language models."""
