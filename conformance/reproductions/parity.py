"""parity: logits and hooks that are not the model's."""

TAPS = """
$equations
weights, place = load_file(bridge.tokenizer.name_or_path + "/model.safetensors"), "$place"
equations(weights, bridge.original_model.config.to_dict(), given, right.setdefault)
_, cache = bridge.run_with_cache(given.pop("input_ids"), **given)
"""
"""Seven lines: what a cache has, and what is right by the equations."""

TEMPLATES = {
    "parity/taps: value-mismatch": TAPS
    + """
print(f"{place} is off by {(cache[place] - right[place]).abs().max():.1e}")
""",
    "parity/taps: shape-mismatch": TAPS
    + """
print(place, "is", tuple(cache[place].shape), "and should be", tuple(right[place].shape))
""",
    "parity/variants: raised": """
$setup
try:
    bridge = boot(adapter="$adapter", overrides=$fields)
    print("logits", tuple(bridge(tokens, **given).shape))
$told
""",
    "parity/variants: value-mismatch": """
$equations
bridge = boot(adapter="$adapter", overrides=$fields)
weights = load_file(bridge.tokenizer.name_or_path + "/model.safetensors")
for layout in $layouts:
    given = example("$adapter", layout)
    want = equations(weights, bridge.original_model.config.to_dict(), given, lambda name, tensor: tensor)
    print(f"{layout}: off by {(bridge(given.pop('input_ids'), **given) - want).abs().max():.1e}")
""",
    "parity/compatibility: firings": """
$setup
hooks = [("$place", lambda tensor, hook: print("it fires"))]
for _ in ("before", "in compatibility mode"):
    try:
        bridge.run_with_hooks(tokens, **given, fwd_hooks=hooks)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    bridge.enable_compatibility_mode(no_processing=True)
""",
}
