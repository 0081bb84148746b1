"""Traces hold a sampler to what it announces, and a user to what there is; and what they leave in a folder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from traces import RESID, booted, left_alone

from conformance import Trace, trace_denoising
from conformance.adapters.bd3lm import SPEC

KEY = (0, 0, "denoise")


@pytest.fixture(scope="module")
def bridge() -> Any:
    return booted(SPEC)


@pytest.fixture(autouse=True)
def untouched(bridge: Any) -> Iterator[None]:
    with left_alone(bridge):
        yield


@pytest.fixture(scope="module")
def prompt() -> Any:
    import torch

    return torch.tensor([[5, 6, 7, 8, 66, 66]])


def unmasked(bridge: Any, prompt: Any, **options: Any) -> Trace:
    from plain_sampler import unmask

    return trace_denoising(bridge, prompt, sampler=unmask, **{"length": 6, **options})


LIES = {
    "forward": "runs a forward that it has not announced",
    "announce forward report forward": "runs a forward that it has not announced, after (0, 0, denoise)",
    "announce report": "announces a forward at (0, 0, denoise), and runs none",
    "announce forward forward report": "announces one forward at (0, 0, denoise), and runs another",
    "silent forward report": "announces (0, 0, denoise) as a step without a forward, and runs one",
    "announce forward": "announces (0, 0, denoise), and ends without a report of it",
    "announce announce": "announces (0, 1, denoise) before (0, 0, denoise) has happened",
    "silent report again": "announces (0, 0, denoise) twice: block, step and kind tell steps apart",
    "silent report announce:4": "announces (0, 1, denoise) with index 4, and 1 steps were before",
    "silent report report": "reports (0, 0, denoise), which is not under way",
    # What is raised in its forwards, a sampler may catch, or wrap in an error of its own.
    "caught silent report": "runs a forward that it has not announced",
    "wrapped": "runs a forward that it has not announced",
}


@pytest.mark.parametrize(("script", "says"), LIES.items(), ids=LIES)
def test_a_sampler_does_what_it_announces(bridge, prompt, script: str, says: str) -> None:
    from plain_sampler import told

    from conformance.tracing import Misreported

    with pytest.raises(Misreported, match=f"^the sampler {re.escape(says)}$"):
        trace_denoising(bridge, prompt, sampler=told(script))


def test_errors_of_the_sampler_and_of_edits_come_through(bridge, prompt) -> None:
    from plain_sampler import told

    def edit(tensor: Any, hook: Any, step: Any) -> Any:
        raise ZeroDivisionError("of the edit")

    for script in ("announce forward report broken", "broken", "announce broken"):
        with pytest.raises(ZeroDivisionError, match="of the sampler"):
            trace_denoising(bridge, prompt, names_filter=RESID, sampler=told(script))
    with pytest.raises(ZeroDivisionError, match="of the edit"):
        unmasked(bridge, prompt, edits=[(RESID, edit)])


def test_a_sampler_that_goes_on_after_the_end_is_told(bridge, prompt) -> None:
    from plain_sampler import told

    from conformance.tracing import Misreported, Stopped

    def deaf(*args: Any, observer: Any, **options: Any) -> Any:
        class Deaf:
            def before(self, step: Any) -> None:
                try:
                    observer.before(step)
                except Stopped:
                    observer.before(step)

        return told("announce")(*args, observer=Deaf(), **options)

    with pytest.raises(Misreported, match=r"goes on with \(0, 0, denoise\) after its observer has ended the run"):
        trace_denoising(bridge, prompt, sampler=deaf, stop=(0, 0))


Call = dict[str, Any]
KINDS = "wanted some of denoise, prefix, commit, uncond"
NUMBERS = "wanted numbers from 0: how many a block takes shows when it ends"
UNKNOWN: list[tuple[Call, str]] = [
    (
        {"names_filter": "blocks.1.hook_resid_psot"},
        "names_filter: the bridge has no hook 'blocks.1.hook_resid_psot'; did you mean 'blocks.1.hook_resid_post'?",
    ),
    ({"names_filter": [RESID, "!"]}, "names_filter: the bridge has no hook '!'; bridge.hook_dict has all names"),
    ({"names_filter": lambda name: False}, "names_filter matches none of the 82 names in bridge.hook_dict"),
    (
        {"edits": [(RESID, print), ("hook_embd", print)]},
        "edits[1]: the bridge has no hook 'hook_embd'; did you mean 'hook_embed'?",
    ),
    ({"edits": [(RESID, print, "comit")]}, f"edits[0] has 'comit', {KINDS}"),
    ({"kinds": ["denoised"]}, f"kinds has 'denoised', {KINDS}"),
    ({"stop": (0, 0, "x")}, f"stop has 'x', {KINDS}"),
    ({"steps": -1}, f"steps is -1, {NUMBERS}"),
    ({"steps": [1, -2]}, f"steps is [1, -2], {NUMBERS}"),
    ({"steps": slice(-2, None)}, f"steps is slice(-2, None, None), {NUMBERS}"),
    ({"steps": range(3, -1, -1)}, f"steps is range(3, -1, -1), {NUMBERS}"),
    (
        {"positions": lambda step: step.masked[:, :4]},
        "positions is bool of shape (1, 4), wanted one for each of 6 columns",
    ),
    ({"to": "/tmp/x"}, "to is '/tmp/x', wanted a device, or a folder as a Path"),
    (
        {"names_filter": "blocks.0.hook_mlp_in"},
        "Cannot add hook blocks.0.hook_mlp_in because use_hook_mlp_in is False. Call set_use_hook_mlp_in(True) first.",
    ),
    (
        {"edits": [(RESID, lambda tensor, hook, step: tensor[:, 1:])]},
        "the edit at blocks.1.hook_out returned shape (1, 5, 24), wanted (1, 6, 24)",
    ),
]
UNFIT: list[tuple[Call, str]] = [
    ({"edits": [RESID]}, f"edits[0] is {RESID!r}, wanted (name, function) or (name, function, kinds)"),
    ({"edits": [(RESID, 3)]}, f"edits[0] is ({RESID!r}, 3), wanted (name, function) or (name, function, kinds)"),
    ({"stop": 3}, "stop is 3, wanted a function, (block, step) or (block, step, kind)"),
    ({"stop": (1,)}, "stop is (1,), wanted a function, (block, step) or (block, step, kind)"),
    ({"steps": 1.5}, "steps is 1.5, wanted a number, numbers, a slice or a function"),
    ({"names_filter": 3}, "names_filter is 3, wanted a name, names or a function"),
    (
        {"edits": [(RESID, lambda tensor, hook, step: 3)]},
        "the edit at blocks.1.hook_out returned int, wanted a tensor or None",
    ),
]


@pytest.mark.parametrize(("arguments", "says"), [*UNKNOWN, *UNFIT], ids=[says[:40] for _, says in [*UNKNOWN, *UNFIT]])
def test_what_does_not_exist_is_told(bridge, prompt, arguments: Any, says: str) -> None:
    kind = ValueError if (arguments, says) in UNKNOWN else TypeError
    with pytest.raises(kind, match=f"^{re.escape(says)}$"):
        unmasked(bridge, prompt, **arguments)


SILENT: dict[str, tuple[dict[str, Any], str]] = {
    "name": (
        {"names_filter": [RESID, "unembed.hook_in"], "steps": 2, "length": 8},
        "never fired in the steps kept: blocks.1.hook_out, unembed.hook_in",
    ),
    "steps": ({"steps": 9}, "none of the run's 2 steps was of the wanted steps and kinds"),
    "kinds": ({"kinds": "commit"}, "none of the run's 2 steps was of the wanted steps and kinds"),
    "edit": ({"edits": [(RESID, print, "commit")]}, "edits[0] at blocks.1.hook_out was never applied"),
    "stop": ({"stop": (7, 0)}, "stop is (7, 0), which was never reached"),
}


@pytest.mark.parametrize(("arguments", "says"), SILENT.values(), ids=SILENT)
def test_what_never_happened_is_told(bridge, prompt, arguments: Any, says: str) -> None:
    with pytest.warns(UserWarning, match=f"^trace_denoising: {re.escape(says)}$") as told:
        unmasked(bridge, prompt, **arguments)
    assert [warning.filename for warning in told] == [__file__]


def test_a_hook_without_a_tensor_is_told(bridge, prompt) -> None:
    from conformance.mutants.surgery import around_firing

    point = bridge.hook_dict[RESID]
    kind = type(point)
    around_firing(bridge, RESID, lambda fire, tensor: fire((tensor,))[0])
    try:
        with pytest.warns(UserWarning, match=r"blocks.1.hook_out shows a tuple, of which only tensors are kept"):
            trace = unmasked(bridge, prompt, names_filter=RESID)
    finally:
        object.__setattr__(point, "__class__", kind)
    assert RESID not in trace[KEY]


def test_what_an_entry_has_not_is_told(bridge, prompt) -> None:
    trace = unmasked(bridge, prompt, names_filter=[RESID, "hook_embed"], length=8)
    entry = trace[KEY]
    told: dict[str, tuple[type[Exception], Callable[[], Any]]] = {
        "no entry (4, 0, 'denoise'); kept is (0, 0, denoise) to (1, 0, denoise), 4 entries": (
            KeyError,
            lambda: trace[4, 0, "denoise"],
        ),
        "no entry (0, 0, 'commit'); kept is nothing": (KeyError, lambda: Trace()[0, 0, "commit"]),
        "'hook_embd' is not among the taps of (0, 0, denoise); did you mean 'hook_embed'?": (
            KeyError,
            lambda: entry["hook_embd"],
        ),
        "(0, 2, denoise) has no taps: the model did not run": (KeyError, lambda: trace[0, 2, "denoise"][RESID]),
        "(0, 0, denoise) has no log_probs: trace_denoising(..., logits=True) keeps them": (
            ValueError,
            lambda: entry.log_probs,
        ),
    }
    for says, (kind, look) in told.items():
        with pytest.raises(kind) as caught:
            look()
        assert caught.value.args == (says,)
    assert trace[0, 2, "denoise"].facts.runs is False


def test_a_folder_holds_what_memory_would(bridge, prompt, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "names_filter": [RESID, "embed.hook_in"],
        "positions": lambda step: step.masked,
        "logits": True,
        "guided": True,
        "shift": True,
    }
    kept = unmasked(bridge, prompt, **options)
    folder = tmp_path / "new" / "trace"
    written = unmasked(bridge, prompt, **options, to=folder)
    read = Trace.open(folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "000000.0.0.uncond.entry.safetensors"
    assert len(names) == len(kept) + 1
    assert list(kept) == list(written) == list(read)
    assert kept.canvas is not None
    assert kept.canvas.equal(written.canvas)
    assert kept.canvas.equal(read.canvas)
    for key, entry in kept.items():
        for other in (written[key], read[key]):
            assert other.facts == entry.facts
            assert dict(other.tensors).keys() == dict(entry.tensors).keys()
            assert all(tensor.equal(other.tensors[name]) for name, tensor in entry.tensors.items())
            assert len(other.tensors) == len(entry.tensors)
            assert other.log_probs is None or other.log_probs.equal(entry.log_probs)
            assert not entry.facts.runs or other["blocks.1.hook_resid_post"].equal(entry["blocks.1.hook_out"])
    again = unmasked(bridge, prompt, resume=written[KEY].state, shift=True)
    assert again.canvas is not None
    assert again.canvas.equal(kept.canvas)
    with pytest.raises(ValueError, match=r"\(0, 0, denoise\) has no state: none was given, or this was read from"):
        _ = read[KEY].state


def test_entries_on_disk_are_read_when_they_are_asked_for(bridge, prompt, tmp_path: Path) -> None:
    trace = unmasked(bridge, prompt, names_filter=RESID, to=tmp_path)
    assert all(type(entry.tensors).__name__ == "File" for entry in trace.values())
    shape = trace[KEY][RESID].shape
    assert trace[KEY][RESID] is not trace[KEY][RESID]
    (tmp_path / "000000.0.0.denoise.entry.safetensors").unlink()
    assert (shape, trace[KEY].columns) == ((1, 6, 24), (0, 1, 2, 3, 4, 5))
    with pytest.raises(FileNotFoundError):
        trace[KEY][RESID]


def test_a_folder_is_one_trace_and_whole_as_far_as_the_run_went(
    bridge, prompt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch
    from plain_sampler import told

    with pytest.raises(ZeroDivisionError):
        trace_denoising(bridge, prompt, sampler=told("announce forward report broken"), to=tmp_path / "broken")
    broken = Trace.open(tmp_path / "broken")
    assert list(broken) == [KEY]
    assert broken.canvas is None
    assert unmasked(bridge, prompt, to=tmp_path / "ended", stop=(0, 1)).keys() == {KEY}
    assert Trace.open(tmp_path / "ended").canvas is not None
    with pytest.raises(ValueError, match=r"^to is '.*ended', which is not empty: a trace has a folder of its own$"):
        unmasked(bridge, prompt, to=tmp_path / "ended")

    def full(tensors: Any, path: Path, said: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(OSError, match="no space left"):
            unmasked(bridge, prompt, to=tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(unmasked(bridge, prompt, to=tmp_path / "full")) == 2
