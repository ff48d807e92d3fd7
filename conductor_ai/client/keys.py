"""`client.api_keys`: the keys of the organisation. Needs the role admin."""

from typing import Literal

from conductor_ai.client.endpoint import Resource, W, endpoint, listing
from conductor_ai.client.paging import Paged, paged
from conductor_ai.client.reading import reads
from conductor_ai.client.steps import Call, Request, body, path, query
from conductor_ai.contracts.answers import KeyView, NewKey, Page


class ApiKeys(Resource[W]):
    """Keys are kept as hashes: a secret is shown once, when it is made."""

    @listing
    def list(self, *, limit: int = 50, cursor: str | None = None) -> Paged[KeyView]:
        """The organisation's keys, newest first, revoked ones too.

        Args:
            limit: entries of one page, 1 to 200. Iterating goes through all pages.
            cursor: `next_cursor` of a page, to begin after it.
        """
        return paged(Page[KeyView], Request("GET", "/v1/api-keys", query(limit=limit, cursor=cursor)))

    @endpoint
    def create(self, name: str, role: Literal["viewer", "operator", "approver", "admin"]) -> Call[NewKey]:
        """Makes a key. `secret` of the answer is what callers show; it cannot be shown again.

        Raises:
            Forbidden: the client's own key is no admin's.
        """
        return Call(Request("POST", "/v1/api-keys", body=body(name=name, role=role)), reads(NewKey))

    @endpoint
    def revoke(self, key_id: str) -> Call[None]:
        """Every process refuses it within 60 seconds. Again: no error.

        Raises:
            Forbidden: the client's own key is no admin's.
        """
        return Call(Request("DELETE", path("/v1/api-keys/{}", key_id)), lambda _: None)
