"""What the workflow learns of a model call that failed for good. Pure."""

from pydantic import ValidationError
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeout

from conductor_ai.contracts.session import ModelFailed
from conductor_ai.errors import Code


def model_failed(error: ActivityError) -> ModelFailed:
    """Code, reason and usage, as far as the failure tells them.

    A model that did not finish within the time of any attempt is as good as away. A worker that died is not its fault.
    """
    cause = error.cause
    if isinstance(cause, ActivityTimeout) and cause.type is TimeoutType.START_TO_CLOSE:
        return ModelFailed(code=Code.MODEL_UNAVAILABLE, reason="timed_out")
    if not isinstance(cause, ApplicationError):
        return ModelFailed()
    for detail in cause.details:
        try:
            return ModelFailed.model_validate(detail)
        except ValidationError:  # another version's
            continue
    return ModelFailed(code=cause.type)
