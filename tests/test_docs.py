"""README and gate: what they promise is what happens."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_gate_runs_the_commands_of_the_readme_to_the_letter() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [block.strip() for block in blocks("sh")]
    assert len(commands) == 2
    assert [command for command in commands if command not in gate] == []


def summary(text: str) -> list[str]:
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if "conformance of bd3lm" in line)
    stop = next(i for i, line in enumerate(lines) if line.startswith("bd3lm (miniature)"))
    return [line.rstrip() for line in lines[start : stop + 1]]


def test_the_transcript_is_what_a_run_says(run: Callable) -> None:
    (transcript,) = blocks("text")
    assert summary(run("--adapter", "bd3lm", timed=True).text) == summary(transcript)


def test_what_the_readme_does_with_the_complete_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("python") if "bd3lm-reference" in block)
    exec(compile(block, "README.md", "exec"), {})
    first, second, text, *steps = capsys.readouterr().out.splitlines()
    assert first == "torch.Size([1, 4, 5, 5]) torch.Size([1, 24])"
    assert second.startswith("tensor([[")
    assert text.startswith("a dog")
    assert len(text) == len("a dog") + 15
    # A step for every token that is not the prompt's, and the steered canvas on two lines.
    assert len(steps) == 15 + 2


def test_what_the_readme_does_with_a_sampler_that_a_model_brings_along(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("python") if "dream@repaired" in block)
    exec(compile(block, "README.md", "exec"), {})
    steps = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "torch.Size([1, 12, 32])" in line]
    assert steps == [str(step) for step in range(6)]


def test_the_spec_of_the_readme_is_one_and_is_booted(pytester: pytest.Pytester, run: Callable) -> None:
    (block,) = (block for block in blocks("python") if "my_package" in block)
    shipped = "transformer_lens.model_bridge.supported_architectures.bd3lm"
    package = pytester.mkpydir("my_package")
    (package / "adapter.py").write_text(f"from {shipped} import BD3LMArchitectureAdapter as MyAdapter\n")
    (pytester.path / "readme_spec.py").write_text(block)
    found = run("--adapter", "readme_spec:SPEC", "-k", "boots or logits")
    assert found.verdicts("loading/boots") == {None: "PASS"}
    assert set(found.verdicts("parity/logits").values()) == {"PASS"}


def test_the_paths_that_the_readme_names_exist() -> None:
    named = re.findall(r"`((?:conformance|fixtures|ci)/[\w./]*)`", README)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
    modules = re.findall(r"`(\w+\.py)`", README)
    assert [name for name in modules if not (ROOT / "conformance" / name).exists()] == []


def test_every_option_of_the_readme_is_one_of_the_plugin_or_of_a_command(
    run: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    from conformance import commands

    for name in commands.COMMANDS:
        with pytest.raises(SystemExit):
            commands.main([name, "--help"])
    text = capsys.readouterr().out + run("--help").text
    # Two are of other programs.
    options = set(re.findall(r"--[a-z][a-z-]+", README)) - {"--check", "--json"}
    assert [option for option in sorted(options) if option not in text] == []


def test_the_contract_is_mentioned_where_it_is_made() -> None:
    assert "python -m conformance.contract" in README
