"""Nodes as the tools of a language model: FastMCP makes a schema of what a dispatch shows of itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chia.base.ChiaFunction import ChiaFunction
from mcp.server.fastmcp import FastMCP

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.usefixtures("cluster")]


@ChiaFunction
def scale(value: int, by: float = 2.0) -> float:
    """Scale a value."""
    return value * by


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    @ChiaFunction(num_cpus=1)
    def total(self, count: int) -> int:
        """What so many cost."""
        return self.price * count


def tool_of(function: Any) -> tuple[Any, FastMCP]:
    server = FastMCP("flow")
    server.add_tool(function)
    (tool,) = asyncio.run(server.list_tools())
    return tool, server


@pytest.mark.parametrize("function", [scale.chia_remote_blocking, scale.options(num_cpus=1).chia_remote_blocking])
def test_a_node_is_a_tool_with_the_schema_of_its_function(function: Any) -> None:
    tool, server = tool_of(function)
    assert (tool.name, tool.description) == ("scale", "Scale a value.")
    assert tool.inputSchema["required"] == ["value"]
    properties = tool.inputSchema["properties"]
    assert {name: properties[name]["type"] for name in properties} == {"value": "integer", "by": "number"}
    assert "7.5" in str(asyncio.run(server.call_tool("scale", {"value": 3, "by": 2.5})))


def test_a_bound_method_is_a_tool_without_its_instance() -> None:
    tool, server = tool_of(Shop(4).total.chia_remote_blocking)
    assert tool.name == "total"
    assert list(tool.inputSchema["properties"]) == ["count"]
    assert "12" in str(asyncio.run(server.call_tool("total", {"count": 3})))
