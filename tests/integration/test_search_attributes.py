"""Search attributes: there when a worker starts, or a sentence that says why not."""

from pathlib import Path

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from temporalio.client import Client

from conductor_ai import names
from conductor_ai.errors import ConfigurationError
from conductor_ai.temporal import register_search_attributes
from tests.fixtures_servers import temporal_in


async def test_missing_ones_are_added_and_wrong_ones_are_told(tmp_path: Path) -> None:
    """What is missing is added, twice is no error; an attribute of another type stops the worker with its name."""
    async with temporal_in(tmp_path) as server:
        client = await Client.connect(server.address)
        operator = client.operator_service
        await operator.remove_search_attributes(
            RemoveSearchAttributesRequest(namespace="default", search_attributes=["ConductorOrg", "ConductorCostUsd"])
        )
        await register_search_attributes(client)
        await register_search_attributes(client)
        known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace="default"))
        assert {key.name for key in names.SEARCH_ATTRIBUTES} <= set(known.custom_attributes)
        await operator.remove_search_attributes(
            RemoveSearchAttributesRequest(namespace="default", search_attributes=["ConductorOrg"])
        )
        await operator.add_search_attributes(
            AddSearchAttributesRequest(
                namespace="default", search_attributes={"ConductorOrg": IndexedValueType.INDEXED_VALUE_TYPE_INT}
            )
        )
        with pytest.raises(ConfigurationError, match="ConductorOrg"):
            await register_search_attributes(client)
