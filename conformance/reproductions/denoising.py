"""denoising: what a sampler does with a prompt, a seed and a batch."""

TEMPLATES = {
    "denoising/prompt: raised": """
import torch
$boot
try:
    print(bridge.diffusion_generate(torch.tensor([[5, 6, 7, 8, 9]]), max_new_tokens=0, $options))
$told
""",
    "denoising/prompt: wrong-length": """
import torch
$boot
prompt = torch.tensor([[5, bridge.tokenizer.eos_token_id, 7, 8]])
text = bridge.diffusion_generate(prompt, max_new_tokens=4, $options)
print("a prompt of 4 tokens and 4 new ones make", text.shape[1])
""",
    "denoising/batch: other-tokens": """
import torch
from conformance import boot, trace_denoising
bridge, prompts = boot(adapter="$adapter"), torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
both = trace_denoising(bridge, prompts, seed=7, $length=8, $options).canvas
second = trace_denoising(bridge, prompts[1:], seed=8, $length=8, $options).canvas
print("the second text is the same alone:", both[1:].equal(second))
""",
    "denoising/batch: unclear-error": """
import torch
$boot
try:
    print(bridge.diffusion_generate(torch.tensor([[5, 6, 7, 8]] * 2), max_new_tokens=4, $options))
$told
""",
    "denoising/beyond-context: accepted": """
import torch
$boot
text = bridge.diffusion_generate(torch.tensor([[5, 6, 7, 8]]), max_new_tokens=$n, $options)
print("in a context of $n, a text of 4 + $n tokens was asked for, and one of", text.shape[1], "came back")
""",
    "denoising/noise: no-level": """
import torch
from conformance import boot, trace_denoising
bridge, prompt = boot(adapter="$adapter"), torch.tensor([[5, 6, 7, 8]])
trace = trace_denoising(bridge, prompt, kinds="denoise", seed=7, $length=8, $options)
print("noise levels of the first steps:", *[entry.t for entry in list(trace.values())[:3]])
""",
}
