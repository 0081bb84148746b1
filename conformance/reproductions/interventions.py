"""interventions: what an edit reaches, and should not, or does not, and should."""

TEMPLATES = {
    "interventions/edits: edit-changed": """
$equations
weights, place = load_file(bridge.tokenizer.name_or_path + "/model.safetensors"), "$place"
def double(name, tensor):
    return 2 * tensor if name == place else tensor
want = equations(weights, bridge.original_model.config.to_dict(), given, double)
bridge.add_hook(place, lambda tensor, hook: 2 * tensor)
print(f"doubled here and there, logits differ by {(bridge(given.pop('input_ids'), **given) - want).abs().max():.1e}")
""",
    "interventions/edits: edit-discarded": """
$setup
plain = bridge(tokens, **given)
bridge.add_hook("$place", lambda tensor, hook: 0 * tensor)
print(f"set to zero, it moves the logits by {(bridge(tokens, **given) - plain).abs().max():.1e}")
""",
    "interventions/upstream: reached-back": """
$setup
_, before = bridge.run_with_cache(tokens, **given)
with bridge.hooks(fwd_hooks=[("blocks.0.hook_in", lambda tensor, hook: tensor.add_(1))]):
    _, after = bridge.run_with_cache(tokens, **given)
moved = (after["embed.hook_out"] - before["embed.hook_out"]).abs().max()
print(f"embed.hook_out, computed before the edit at blocks.0.hook_in, moved by {moved:.1e}")
""",
}
