"""`kuzushiji-transfer completion`: a script that lets a shell complete this command line."""

from __future__ import annotations

import shtab

from transfer.commands import arguments

EXAMPLES = """\
  kuzushiji-transfer completion bash > ~/.local/share/bash-completion/completions/kuzushiji-transfer
  kuzushiji-transfer completion zsh > "${fpath[1]}/_kuzushiji-transfer"
"""


def add(commands) -> None:
    parser = arguments.add(
        commands,
        "completion",
        run,
        "print a script for the shell's completion",
        "Print a script with which the shell completes commands, options and file names.",
        EXAMPLES,
    )
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)


def run(chosen) -> int:
    print(shtab.complete(chosen.top, chosen.shell))
    return 0
