"""What a failed activity says of itself. Pure."""

from temporalio.exceptions import ApplicationError


def failure_cause(error: BaseException) -> ApplicationError | None:
    """The sentence of ours at the end of the chain, if there is one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ApplicationError):
            return found
        found = found.__cause__
    return None


def failure_type(error: BaseException) -> str | None:
    """Its stable code."""
    cause = failure_cause(error)
    return cause.type if cause is not None else None


def failure_message(error: BaseException) -> str:
    """Its sentence."""
    cause = failure_cause(error)
    if cause is not None:
        return cause.message
    return "An activity did not finish in time; its worker may have died."
