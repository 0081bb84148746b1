"""cache: what is kept of a run, and what is computed from it."""

OBSERVED = """
$setup
place, shown = "$place", []
bridge.run_with_hooks(tokens, **given, fwd_hooks=[(place, lambda tensor, hook: shown.append(tensor.clone()))])
_, cache = bridge.run_with_cache(tokens, **given)
"""
"""Six lines: what a hook shows without a cache, and a cache."""

SLICED = """
$setup
place = "$place"
_, whole = bridge.run_with_cache(tokens, **given)
_, last = bridge.run_with_cache(tokens, **given, pos_slice=-1)
print(place, "of", tuple(whole[place].shape), "at the last position", tuple(last[place].shape))
"""

ROW = """
$setup
row = {name: value[:1] if hasattr(value, "shape") else value for name, value in given.items()}
_, cache = bridge.run_with_cache(tokens, **given)
_, alone = bridge.run_with_cache(%s)
print("$place of", len(tokens), "rows is", tuple(cache["$place"].shape))
print("and of the first alone", tuple(alone["$place"].shape))
"""

TEMPLATES = {
    "cache/observes: not-bit-equal": """
$setup
plain = bridge(tokens, **given)
logits, _ = bridge.run_with_cache(tokens, **given)
print("logits beside a cache are those without, bit for bit:", logits.equal(plain))
""",
    "cache/values: not-bit-equal": OBSERVED
    + """
print("the entry is what the hook shows without a cache, bit for bit:", cache[place].equal(shown[0]))
""",
    "cache/keeps-every-firing": """
$setup
place, fired = "$place", []
with bridge.hooks(fwd_hooks=[(place, lambda tensor, hook: fired.append(tuple(tensor.shape)))]):
    _, cache = bridge.run_with_cache(tokens, **given)
print("fired with", *fired, "and cached as", tuple(cache[place].shape))
""",
    "cache/own-storage: shared-storage": """
$setup
_, cache = bridge.run_with_cache(tokens, **given)
before = cache["blocks.0.hook_in"].clone()
cache["embed.hook_out"].add_(1)
moved = (cache["blocks.0.hook_in"] - before).abs().max()
print(f"embed.hook_out of the cache was changed, and blocks.0.hook_in moved by {moved:.1e}")
""",
    "cache/memory: held": """
$setup
_, cache = bridge.run_with_cache(tokens, **given)
entry = cache["$place"]
print("an entry of", entry.nbytes, "bytes, which holds", entry.untyped_storage().nbytes())
""",
    "cache/filter-typo: accepted": """
$setup
_, cache = bridge.run_with_cache(tokens, **given, names_filter=["hook_embed", "hook_unembde"])
print("asked for hook_unembde too, and got", *sorted(cache))
""",
    "cache/filter-dead-name: silent": """
import warnings
$setup
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    _, cache = bridge.run_with_cache(tokens, **given, names_filter="blocks.$last.hook_resid_post", stop_at_layer=-1)
print(len(told), "warnings, and a cache of", len(cache), "entries")
""",
    "cache/keywords: value-mismatch": """
$setup
plain = bridge(tokens, **given)
logits, _ = bridge.run_with_cache(tokens, **given)
print(f"with the same keywords run_with_cache moves the logits by {(logits - plain).abs().max():.1e}")
""",
    "cache/one-row: shape-mismatch": ROW % "tokens[0], **row",
    "cache/batch-dim: shape-mismatch": ROW % "tokens[:1], **row, remove_batch_dim=True",
    "cache/pos-slice: sliced": SLICED,
    "cache/pos-slice: shape-mismatch": SLICED,
    "cache/stop-at-layer: not-bit-equal": """
$setup
shown = []
bridge.run_with_hooks(
    tokens, **given, fwd_hooks=[("blocks.$last.hook_in", lambda tensor, hook: shown.append(tensor.clone()))]
)
stopped, _ = bridge.run_with_cache(tokens, **given, stop_at_layer=-1)
print("what is returned is what enters the last layer, bit for bit:", stopped.equal(shown[0]))
""",
    "cache/decompose: value-mismatch": OBSERVED
    + """
parts = cache.decompose_resid(layer=$next).sum(0)
print(f"the parts miss what the model has at {place} by {(parts - shown[0]).abs().max():.1e}")
""",
    "cache/decompose: raised": """
$setup
_, cache = bridge.run_with_cache(tokens, **given)
try:
    print(cache.decompose_resid(layer=1).shape)
$told
""",
    "cache/accumulated: raised": """
$setup
_, cache = bridge.run_with_cache(tokens, **given)
try:
    print(cache.accumulated_resid(incl_mid=True).shape)
$told
""",
    "cache/accumulated: not-bit-equal": OBSERVED
    + """
stack = cache.accumulated_resid(incl_mid=True)
print("one of them is what the hook shows, bit for bit:", any(each.equal(shown[0]) for each in stack))
""",
    "cache/head-results: raised": """
$setup
_, cache = bridge.run_with_cache(tokens, **given)
try:
    heads = cache.stack_head_results(layer=1).sum(0)
    print(f"the heads miss hook_attn_out by {(heads - cache['blocks.0.hook_attn_out']).abs().max():.1e}")
$told
""",
    "cache/head-results: value-mismatch": OBSERVED
    + """
heads = cache.stack_head_results(layer=$next).sum(0)
print(f"the heads miss what the model has at {place} by {(heads - shown[0]).abs().max():.1e}")
""",
    "cache/logit-lens": """
$setup
logits, cache = bridge.run_with_cache(tokens, **given)
try:
    lens = cache.logit_lens(positions=None, layers=[-1]).values[0]
    print(f"the lens at the last layer misses the logits by {(lens[:, :logits.shape[1]] - logits).abs().max():.1e}")
$told
""",
}
