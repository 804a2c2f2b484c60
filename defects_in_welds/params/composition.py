"""How Hydra composes ``configs/params.yaml`` with overrides, what is refused, and how mistakes are explained."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from itertools import chain
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from defects_in_welds.params import Params, ParamsError

CONFIG_NAME = "params"

ConfigStore.instance().store(name="schema", node=Params)


def config_dir() -> Path:
    """Find the folder of ``params.yaml``: that of the working directory, else that of the project of this package."""
    here = Path.cwd() / "configs"
    return here if (here / f"{CONFIG_NAME}.yaml").is_file() else Path(__file__).resolve().parents[2] / "configs"


def to_params(config: object) -> Params:
    """Turn a composed configuration into checked parameters.

    Raises:
        ParamsError: If a value is missing, of the wrong type or impossible.
    """
    try:
        _refuse_references(OmegaConf.to_container(config, resolve=False))
        params = OmegaConf.to_object(config)
    except (OmegaConfBaseException, OverflowError, RecursionError) as error:
        raise ParamsError(_explain(error)) from None
    assert isinstance(params, Params)
    _refuse_unknown_keys(params)
    return params


def compose_params(overrides: Sequence[str]) -> Params:
    """Read ``configs/params.yaml``; the same as ``load_params``."""
    config = _compose(overrides)
    _refuse_plugins(config)
    with open_dict(config):
        del config["hydra"]
    return to_params(config)


def require_no_code(arguments: Sequence[str]) -> None:
    """Refuse configuration through which Hydra itself would call functions that a file or an argument names.

    Args:
        arguments: Command line of a program that Hydra runs, its flags included; a sweep's too.

    Raises:
        ParamsError: If there is any.
    """
    overrides = [text for text in arguments if not text.startswith("-") and ("=" in text or text.startswith("~"))]
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        sweep = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except (HydraException, RecursionError, ValueError) as error:
        raise ParamsError(_explain(error)) from None
    for run in chain.from_iterable(sweep):
        _refuse_plugins(_compose(run))


def _compose(overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        _refuse_references(override)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
            return compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)
    except yaml.YAMLError as error:
        raise ParamsError(f"params: no valid YAML ({' '.join(str(error).split())})") from None
    except (HydraException, OmegaConfBaseException, ValueError, OverflowError, RecursionError) as error:
        raise ParamsError(_explain(error)) from None


def _refuse_references(value: object, key: str = "") -> None:
    """Refuse ``${...}``: it could carry a key of the environment into the records, and DVC would record it as it is."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_references(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            _refuse_references(inner, key)
    elif isinstance(value, str) and "${" in value:
        raise ParamsError(f"params: {key or 'an override'} is {value!r:.80}; allowed: the value itself, no ${{...}}")


def _refuse_unknown_keys(section: object, key: str = "") -> None:
    """Refuse what ``+section.key=value`` adds to the schema, such as ``_target_``: nothing reads it."""
    if is_dataclass(section):
        allowed = sorted(field.name for field in fields(section))
        for name, value in vars(section).items():
            full_key = f"{key}.{name}".lstrip(".")
            if name not in allowed:
                raise ParamsError(f"params: unknown key {full_key}; allowed: {', '.join(allowed)}")
            _refuse_unknown_keys(value, full_key)


def _refuse_plugins(config: DictConfig) -> None:
    """Refuse callbacks, launchers, sweepers and log handlers, which Hydra calls, and variables that children obey."""
    hydra = OmegaConf.to_container(config.hydra, resolve=False)
    assert isinstance(hydra, dict)
    is_plain = not (hydra["callbacks"] or hydra["job"]["env_set"]) and all(
        hydra[key]["_target_"] == f"hydra._internal.core_plugins.basic_{key}.Basic{key.capitalize()}"
        for key in ("launcher", "sweeper")
    )
    logging = [hydra[key] or {} for key in ("job_logging", "hydra_logging")]
    if not is_plain or any(set(one) - {"version", "root", "disable_existing_loggers"} for one in logging):
        raise ParamsError(
            "params: hydra.callbacks, launcher, sweeper, job.env_set, job_logging and hydra_logging name code to run; "
            "leave them as they are in configs/params.yaml"
        )


def _explain(error: Exception) -> str:
    """Say in one line which key is wrong and what it takes."""
    if isinstance(error, OverflowError | RecursionError):
        return f"params: {'too large a number' if isinstance(error, OverflowError) else 'nested too deeply'}"
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and is_dataclass(cause.object_type):
        allowed = ", ".join(sorted(field.name for field in fields(cause.object_type)))
        return f"params: unknown key {cause.full_key}; allowed: {allowed}"
    if isinstance(cause, MissingConfigException):
        return f"params: there is no {cause.missing_cfg_file}; there are: {', '.join(cause.options or ())}"
    lines = [line.strip() for line in str(cause).splitlines()]
    text = "; ".join(line for line in lines[:4] if line and not line.startswith(("object_type", "reference_type")))
    return f"params: {text.replace('full_key: ', 'key ')}"
