"""How any command runs: strict about flags, one line for what the user can put right, its log on the terminal."""

import inspect
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence

import fire
from fire.decorators import SetParseFn, SetParseFns
from fire.parser import DefaultParseValue

from defects_in_welds.params import UserError, report_user_errors


def log_to_terminal() -> None:
    """Show what the package logs on the standard output stream, and warnings of others."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger(__package__).setLevel(logging.INFO)


def run_command(commands: Mapping[str, Callable[..., None]], given: Sequence[str]) -> None:
    """Run the command that a command line names.

    Args:
        commands: Functions by name; their positional arguments are overrides.
        given: The command line after the program's name.
    """
    log_to_terminal()
    with report_user_errors():
        _require_known(commands, given)
        for command in commands.values():
            # Fire would make numbers of overrides, and of folders such as 2024.
            SetParseFn(str)(command)
            SetParseFns(**dict.fromkeys(_flags(command), DefaultParseValue))(command)
        # Asked for help beside other arguments, Fire would run the command first.
        asked = [given[0], "--help"] if "--help" in given[1:] else list(given)
        fire.Fire(dict(commands), command=asked, name=__package__)


def _require_known(commands: Mapping[str, Callable[..., None]], given: Sequence[str]) -> None:
    """Check the command's name and flags: Fire would see a misspelt flag only after the command has run."""
    if not given or given[0].startswith("-"):
        return
    if given[0] not in commands:
        raise UserError(f"there is no command {given[0]!r}; there are: {', '.join(commands)}")
    known = {"help", *_flags(commands[given[0]])}
    for flag in re.findall(r"^--?([a-zA-Z][\w-]*)", "\n".join(given[1:]), flags=re.MULTILINE):
        if flag.replace("-", "_") not in known:
            names = ", ".join(f"--{name}" for name in sorted(known))
            raise UserError(f"{given[0]} has no flag --{flag}; it has {names}, and overrides as section.key=value")


def _flags(command: Callable[..., None]) -> set[str]:
    parameters = inspect.signature(command).parameters.values()
    return {each.name for each in parameters if each.kind is not each.VAR_POSITIONAL}
