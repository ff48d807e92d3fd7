"""The operator's approval policy, from a TOML file (CONDUCTOR_APPROVAL_POLICY)."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from conductor_ai.approvals import SHIPPED, Policy
from conductor_ai.errors import ConfigurationError


def load_policy(path: Path | None) -> Policy:
    """The rules of the file, then the shipped ones. Without a file the shipped ones alone.

    Raises:
        ConfigurationError: the file cannot be read, or is no policy; the sentence says where.
    """
    if path is None:
        return SHIPPED
    hint = "See docs/how-to/write-an-approval-policy.md."
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"The approval policy cannot be read ({error.strerror}). Check CONDUCTOR_APPROVAL_POLICY. {hint}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The approval policy is no TOML: {error}. {hint}") from error
    try:
        policy = Policy.model_validate(written)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:5]
        )
        raise ConfigurationError(f"The approval policy is not valid: {problems}. {hint}") from error
    return policy.model_copy(update={"rules": (*policy.rules, *SHIPPED.rules)})
