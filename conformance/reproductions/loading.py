"""loading: what does not boot, and what a bridge says of itself and takes."""

WRONG = {
    "floats": "tokens = tokens.float()",
    "three axes": "tokens = tokens[..., None]",
    "beyond the vocabulary": "tokens[0, 0] = $vocabulary",
    "negative": "tokens[0, 0] = -1",
    "empty": "tokens = tokens[:, :0]",
    "too long": "tokens = tokens[:, :1].repeat(1, $longest + 1)",
    "too short": "tokens = tokens[:, :-1]",
    "nan": 'given["$subject"][0] = float("nan")',
    "a row too many": 'given["$subject"] = given["$subject"][[0, 1, 0]]',
    "two axes": 'given["$subject"] = given["$subject"][:, None]',
    "text": 'given["$subject"] = [str(value) for value in given["$subject"].tolist()]',
    "None": 'given["$subject"] = None',
    "omitted": 'given.pop("$subject")',
}
"""How an argument is spoilt, by what the ledger calls it."""

OF_ANOTHER_LENGTH = frozenset(("empty", "too long", "too short"))
"""Those after which a mask that is handed over has to be made anew; it would be to blame itself."""

TEMPLATES = {
    "loading/boots": """
from conformance import boot
try:
    boot(adapter="$adapter")
$told
""",
    "loading/opt-in: ran": """
import pathlib, shutil, tempfile
$boot
with tempfile.TemporaryDirectory() as folder:
    shutil.copytree(bridge.tokenizer.name_or_path, folder, dirs_exist_ok=True)
    for file in pathlib.Path(folder).glob("modeling_*.py"):
        file.write_text(file.read_text() + "print('code of the folder runs')\\n")
    boot(folder, hf_model=bridge.original_model)  # a model is there, and nobody said trust_remote_code
""",
    "loading/runs: not-finite": """
import torch
torch.use_deterministic_algorithms(True, warn_only=True)  # what nobody fills is nan, and no longer anything
$setup
torch.use_deterministic_algorithms(False)
logits = bridge(tokens, **given)
print(int(logits.isfinite().sum()), "of", logits.numel(), "logits are finite numbers")
""",
    "loading/parameters: left-over": """
from safetensors.torch import load_file
$boot
saved = load_file(bridge.tokenizer.name_or_path + "/model.safetensors")
place, held = "$place", bridge.original_model.state_dict()
held = {name.replace("_original_component.", "") for name in held}
print(f"{place} is in the checkpoint: {place in saved}, and in the model: {place in held}")
""",
    "loading/dtypes: raised": """
import torch
from conformance import boot, example
bridge, given = boot(adapter="$adapter", dtype=torch.$place), example("$adapter", "$layout")
try:
    print(bridge(given.pop("input_ids"), **given).dtype)
$told
""",
    "loading/dtypes: wrong-dtype": """
import torch
from conformance import boot
bridge = boot(adapter="$adapter", dtype=torch.$place)
print("asked for torch.$place, and got", next(bridge.parameters()).dtype)
""",
    "loading/dtypes: value-mismatch": """
import torch
$equations
weights = load_file(bridge.tokenizer.name_or_path + "/model.safetensors")
exact = {name: weight.double() for name, weight in weights.items()}
want = equations(exact, bridge.original_model.config.to_dict(), given, lambda name, tensor: tensor)
got = boot(adapter="$adapter", dtype=torch.$place)(given.pop("input_ids"), **given)
print(f"logits in $place are off by {(got - want).abs().max():.1e}")
""",
    "loading/state-dict: not-bit-equal": """
$setup
before = bridge(tokens, **given)
kept = {name: tensor.clone() for name, tensor in bridge.state_dict().items()}
for weight in bridge.original_model.parameters():
    weight.data.mul_(1.5)
bridge.load_state_dict(kept)
print(f"the logits are restored but for {(bridge(tokens, **given) - before).abs().max():.1e}")
""",
    "loading/state-dict: untold": """
$boot
state = dict(bridge.state_dict())
del state["embed.weight"]
print("embed.weight is in missing_keys:", "embed.weight" in bridge.load_state_dict(state, strict=False).missing_keys)
""",
    "loading/state-dict: unclear-error": """
$boot
state = dict(bridge.state_dict())
del state["embed.weight"]
try:
    bridge.load_state_dict(state)
except Exception as error:
    print("the error names embed.weight:", "embed.weight" in str(error))
""",
    "loading/config-truths": """
from conformance import boot
cfg = boot(adapter="$adapter").cfg
print("cfg.$name is", getattr(cfg, "$name", "missing"), "and should be $truth")
""",
    "loading/unknown-keyword: accepted": """
$setup
logits = bridge(tokens, **given, atention_maks=None)
print("logits", tuple(logits.shape), "and nothing said of atention_maks")
""",
    "loading/wrong-input": """
$setup
$spoil
try:
    print("logits", tuple(bridge(tokens, **given).shape), "and nothing said of $subject")
$told
""",
    "loading/loss": """
$setup
try:
    print(f"a loss of {bridge(tokens, **given, return_type='loss'):.1e}")
$told
""",
    "loading/processing-flags: value-mismatch": """
$setup
flags = ["fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases", "refactor_factored_attn_matrices"]
before = bridge(tokens, **given).log_softmax(-1)
bridge.enable_compatibility_mode(**{flag: flag == "$place" for flag in flags})
after = bridge(tokens, **given).log_softmax(-1)
print(f"log-probabilities move by {(after - before).abs().max():.1e}")
""",
    "loading/processing-flags: unclear-error": """
$boot
flags = ["fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases", "refactor_factored_attn_matrices"]
try:
    bridge.enable_compatibility_mode(**{flag: flag == "$place" for flag in flags})
$told
""",
}
