"""mask: who may attend to whom, as it is kept, turned and handed over."""

MASKS = {
    "2-D int": "keep.long()",
    "2-D bool": "keep",
    "2-D float 0/1": "keep.float()",
    "2-D additive": "keep.float().log()",
    "3-D bool": "keep[:, None].expand(-1, keep.shape[1], -1)",
    "4-D bool": "keep[:, None, None].expand(-1, 1, keep.shape[1], -1)",
    "4-D float 0/1": "keep[:, None, None].expand(-1, 1, keep.shape[1], -1).float()",
    "4-D additive": "keep[:, None, None].expand(-1, 1, keep.shape[1], -1).float().log()",
    "4-D bool per head": "keep[:, None, None].expand(-1, bridge.cfg.n_heads, keep.shape[1], -1)",
    "4-D bool for all rows": "keep[:1, None, None].expand(-1, 1, keep.shape[1], -1)",
}
"""A mask that lets all queries see the tokens in `keep`, bool `batch key`, by its encoding."""

LEAK = """
$setup
keep, changed = tokens >= 0, tokens.clone()
keep[:, 0], changed[:, 0] = False, (tokens[:, 0] + 1) % $vocabulary
given["attention_mask"] = $mask
logits, other = bridge(tokens, **given), bridge(changed, **given)
print(f"another token where one is hidden moves the others' logits by {(other - logits)[:, 1:].abs().max():.1e}")
"""

GAP = """
$setup
keep = tokens >= 0
keep[:, tokens.shape[1] // 2] = False
given["attention_mask"] = $mask
got, want = bridge(tokens, **given), bridge.original_model(tokens, **given).logits
print(f"with a token hidden, the bridge misses the model it wraps by {(got - want)[keep].abs().max():.1e}")
"""

TEMPLATES = {
    "mask/encodings: ignored": LEAK,
    "mask/encodings: value-mismatch: 2-D int": GAP,
    "mask/encodings: value-mismatch: 2-D bool": GAP,
    "mask/encodings: value-mismatch: 2-D float 0/1": GAP,
    "mask/encodings: value-mismatch: 2-D additive": """
$setup
keep = tokens >= 0
plain = bridge(tokens, **given)
logits = bridge(tokens, **{**given, "attention_mask": $mask})
print(f"a mask that hides nothing moves the logits by {(logits - plain).abs().max():.1e}")
""",
    "mask/encodings: value-mismatch: 3-D bool": """
$setup
keep = tokens >= 0
keep[:, 0] = False
padded = bridge(tokens, **{**given, "attention_mask": $mask})
alone = bridge(tokens[:, 1:], **given)
print(f"with its first token hidden, a text misses the rest of it alone by {(padded[:, 1:] - alone).abs().max():.1e}")
""",
    "mask/encodings: value-mismatch": LEAK,
    "mask/encodings: unclear-error": """
$setup
keep = tokens >= 0
keep[:, 0] = False
given["attention_mask"] = $mask
try:
    print("logits", tuple(bridge(tokens, **given).shape))
$told
""",
    "mask/fully-masked: unclear-error": """
$setup
keep = tokens >= 0
keep[-1] = False
for mask in (keep.long(), keep[:, None, None].expand(-1, 1, keep.shape[1], -1)):
    try:
        print("finite:", bool(bridge(tokens, **{**given, "attention_mask": mask}).isfinite().all()))
    except Exception as error:
        print(f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}")
""",
    "mask/fully-masked: not-finite": """
$setup
keep = tokens >= 0
keep[-1] = False
given["attention_mask"] = keep[:, None, None].expand(-1, 1, keep.shape[1], -1).float().log()
finite = bridge(tokens, **given).isfinite().all(-1).all(-1)
print("where the last row is padding alone, logits of each row are finite:", *finite.tolist())
""",
    "mask/dial: accepted": """
from conformance import adapters, boot
bridge, (spec,) = boot(adapter="$adapter"), adapters.resolve(["$adapter"])
spec.dial.turn(bridge, 2)
print("blocks of 2 in a text of $n, and no error")
""",
}
