"""Haze, a small diffusion language model, and its TransformerLens adapter: an example of a package of one's own."""
