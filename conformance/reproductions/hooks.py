"""hooks: names that are missing or silent, and tensors that are not what a name says."""

ABSENT = """
$setup
place = "$place"
_, cache = bridge.run_with_cache(tokens, **given)
print(f"{place} is in hook_dict: {place in bridge.hook_dict}, and in the cache: {place in cache}")
"""

SHAPE = """
$setup
place = "$place"
_, cache = bridge.run_with_cache(tokens, **given)
print(f"{place} of {tuple(tokens.shape)} tokens, with d_mlp {bridge.cfg.d_mlp}, is {tuple(cache[place].shape)}")
"""

ORDER = """
$setup
fired = []
bridge.add_hook(lambda name: name.startswith("$part."), lambda tensor, hook: fired.append(hook.name))
bridge(tokens, **given)
print(*dict.fromkeys(name.removeprefix("$part.") for name in fired))
"""

TEMPLATES = {
    "hooks/aliases: unresolved": """
$boot
print("declared for", *bridge.hook_aliases["$place"], "and in hook_dict:", "$place" in bridge.hook_dict)
""",
    "hooks/standard-names": """
$boot
names = $hooks
print("missing of $owner:", *[name for name in names if f"$owner.{name}" not in bridge.hook_dict])
""",
    "hooks/fires: never-fires": """
$setup
place, fired = "$place", []
bridge.add_hook(place, lambda tensor, hook: fired.append(tensor))
bridge(tokens, **given)
print(f"{place} is in hook_dict: {place in bridge.hook_dict}, and fires {len(fired)} times")
""",
    "hooks/fires: no-tensor": """
$setup
bridge.add_hook("$place", lambda tensor, hook: print(hook.name, "shows", type(tensor).__name__))
bridge(tokens, **given)
""",
    "hooks/order: out-of-order": ORDER,
    "hooks/order: out-of-nest": ORDER,
    "hooks/shapes: unknown-axis": SHAPE,
    "hooks/shapes: wrong-shape": SHAPE,
    "hooks/position-axis: wrong-axis": """
$setup
place = "$place"
_, whole = bridge.run_with_cache(tokens, **given)
first, hooks, _ = bridge.get_caching_hooks(pos_slice=(0, 1))
bridge.run_with_hooks(tokens, **given, fwd_hooks=hooks)
print(place, "of", tuple(whole[place].shape), "at the first position", tuple(first[place].shape))
""",
    "hooks/pattern: value-mismatch": """
$setup
_, cache = bridge.run_with_cache(tokens, **given)
scores, pattern = cache["$owner.hook_attn_scores"], cache["$owner.hook_pattern"]
print(f"softmax of the scores misses the pattern by {(scores.softmax(-1) - pattern).abs().max():.1e}")
print("scores and pattern are the same:", scores.equal(pattern))
""",
    "hooks/residual-algebra: value-mismatch": """
$setup
place = "$place"
_, cache = bridge.run_with_cache(tokens, **given)
received = cache["$after"] - cache["$before"]
print(f"{place} misses what the stream receives by {(cache[place] - received).abs().max():.1e}")
""",
    "hooks/residual-algebra: missing": ABSENT,
    "hooks/gated-branches: missing": ABSENT,
    "hooks/deepcopy: runs-the-original": """
import copy
$setup
twin, fired = copy.deepcopy(bridge), []
with bridge.hooks(fwd_hooks=[("embed.hook_out", lambda tensor, hook: fired.append(hook.name))]):
    twin(tokens, **given)
print("running the copy fires, in the original,", *fired)
""",
    "hooks/load-path: firings": """
$setup
model, folder = bridge.original_model, bridge.tokenizer.name_or_path
again = type(model)(type(model.config).from_pretrained(folder))
for each in (bridge, boot(folder, "$adapter", trust_remote_code=True, hf_model=again)):
    fired = []
    each.add_hook("$place", lambda tensor, hook, fired=fired: fired.append(tensor))
    each(tokens, **given)
    print(len(fired), "firings,", "booted by path" if each is bridge else "booted around a model")
""",
    "hooks/native-clean: leaked": """
$boot
model = bridge.original_model
for kind, each in (("wrapped", model), ("another", type(model)(model.config))):
    module = each.get_submodule("$owner")
    module = getattr(module, "original_component", module)
    own = {**vars(module), **dict(module.named_parameters(recurse=False, remove_duplicate=False))}
    own |= dict(module.named_children())
    print(f"{kind} model of the class has an attribute $name of its own:", "$name" in own)
""",
}
