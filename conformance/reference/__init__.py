"""A complete BD3LM adapter for TransformerLens, with what its bridge, sampler and objective need."""
