"""A git repository seen from outside: its revisions, what differs between two, and a copy of one in a folder.

Nothing is written to the repository: no worktree is registered, no ref or index touched.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import GateError


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit by the name that was asked for, its hash and the hash of the tree that is judged."""

    name: str
    commit: str
    tree: str

    def __str__(self) -> str:
        return self.commit[:10] if self.commit.startswith(self.name) else f"{self.name} ({self.commit[:10]})"


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository that a folder lies in; `prefix` is the folder's own path in it, `""` at its top."""

    top: Path
    prefix: str

    @classmethod
    def at(cls, folder: Path) -> Repository:
        """The one around a folder; GateError when there is none, or no git."""
        if not folder.is_dir():
            raise GateError(f"--repository {folder}: is no folder; name a checkout of the adapter repository")
        try:
            top, prefix = (_git(folder, "rev-parse", *("--show-" + what,)).rstrip("\n") for what in PLACES)
        except FileNotFoundError:
            raise GateError("there is no git on this machine's PATH; install it") from None
        except subprocess.CalledProcessError as error:
            raise GateError(
                f"--repository {folder}: git says {_said(error)!r}; run in a checkout of the adapter repository"
            ) from None
        return cls(Path(top), prefix)

    def revision(self, option: str, name: str) -> Revision:
        """What a name stands for; GateError when it is no commit of this clone."""
        try:
            commit = self._line("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except subprocess.CalledProcessError:
            shallow = self._line("rev-parse", "--is-shallow-repository") == "true"
            hint = (
                f"this clone is shallow: `git fetch --depth=1 origin {name}`, or fetch-depth: 0 in the checkout step"
                if shallow
                else "fetch it, or list what there is with `git log --oneline --all`"
            )
            raise GateError(f"{option} {name}: no such commit in {self.top}; {hint}") from None
        tree = f"{commit}:{self.prefix.rstrip('/')}" if self.prefix else f"{commit}^{{tree}}"
        try:
            return Revision(name, commit, self._line("rev-parse", "--verify", "--quiet", tree))
        except subprocess.CalledProcessError:
            raise GateError(f"{option} {name}: has no folder {self.prefix}; name another revision or folder") from None

    def fork_point(self, base: Revision, head: Revision) -> Revision | None:
        """Where head's history left base's, so that what base got since is not held against head; None if unknown."""
        try:
            commit = self._line("merge-base", base.commit, head.commit)
        except subprocess.CalledProcessError:
            return None
        return base if commit == base.commit else self.revision("--base", commit)

    def changed(self, base: Revision, head: Revision) -> list[str]:
        """Paths below the prefix, relative to it, that are not the same in both; a move is two of them."""
        listed = self._git("diff-tree", "-r", "-z", "--name-only", "--no-renames", base.tree, head.tree)
        return [path for path in listed.split("\0") if path]

    def dirty(self) -> bool:
        """Whether the folder holds what is in no commit."""
        return bool(self._git("status", "--porcelain", "--untracked-files=normal", "--", f":/{self.prefix}"))

    def copy(self, revision: Revision, folder: Path) -> Path:
        """Write the files of a revision below an empty folder, as a checkout would; the path of the prefix in it.

        Raises:
            GateError: git cannot write them, for instance because a partial clone lacks their content.
        """
        folder.mkdir()
        index = {"GIT_INDEX_FILE": str(folder.with_suffix(".index"))}
        try:
            _git(self.top, "read-tree", revision.commit, extra=index)
            _git(self.top, "checkout-index", "--all", "--quiet", f"--prefix={folder}/", extra=index)
        except subprocess.CalledProcessError as error:
            raise GateError(f"{revision}: cannot be checked out: {_said(error)}; `git fsck` says more") from None
        return folder / self.prefix

    def _git(self, *arguments: str) -> str:
        return _git(self.top, *arguments)

    def _line(self, *arguments: str) -> str:
        return self._git(*arguments).strip()


PLACES = ("toplevel", "prefix")

LOCAL = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
"""What git sets for its hooks, and what would have it look at another repository."""


def _git(folder: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
    command = ("git", "-C", str(folder), *arguments)
    env = {name: value for name, value in os.environ.items() if name not in LOCAL} | dict(extra or {})
    done = subprocess.run(command, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode(errors="surrogateescape")


def _said(error: subprocess.CalledProcessError) -> str:
    lines = error.stderr.decode(errors="replace").strip().splitlines()
    return str(lines[-1]) if lines else f"exit status {error.returncode}"
