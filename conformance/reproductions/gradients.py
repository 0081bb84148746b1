"""gradients: what flows back through a bridge, and should as in the model."""

TEMPLATES = {
    "gradients/parameters: no-gradient": """
$setup
bridge(tokens, **given).logsumexp(-1).sum().backward()
place, weights = "$place", bridge.original_model.named_parameters()
held = {name.replace("_original_component.", ""): weight for name, weight in weights}
print(place, "has the gradient", held[place].grad)
""",
    "gradients/parameters: value-mismatch": """
$equations
weights = load_file(bridge.tokenizer.name_or_path + "/model.safetensors")
want = weights["$place"].requires_grad_()
equations(weights, bridge.original_model.config.to_dict(), given, right.setdefault).logsumexp(-1).sum().backward()
bridge(given.pop("input_ids"), **given).logsumexp(-1).sum().backward()
held = {name.replace("_original_component.", ""): w for name, w in bridge.original_model.named_parameters()}
print(f"the gradient is off by {(held['$place'].grad - want.grad).abs().max():.1e}")
""",
    "gradients/fires: firings": """
$setup
fired = []
bridge.add_hook("$place", lambda tensor, hook: fired.append("forward"))
bridge.add_hook("$place", lambda gradient, hook: fired.append("backward"), dir="bwd")
bridge(tokens, **given).logsumexp(-1).sum().backward()
print("$place fires", *fired)
""",
    "gradients/taps: value-mismatch": """
$equations
weights, place = load_file(bridge.tokenizer.name_or_path + "/model.safetensors"), "$place"
def leaf(name, tensor):
    return right.setdefault(name, tensor.detach().requires_grad_()) if name == place else tensor
equations(weights, bridge.original_model.config.to_dict(), given, leaf).logsumexp(-1).sum().backward()
bridge.add_hook(place, lambda g, hook: print(f"gradient off by {(g - right[place].grad).abs().max():.1e}"), "bwd")
bridge(given.pop("input_ids"), **given).logsumexp(-1).sum().backward()
""",
}
