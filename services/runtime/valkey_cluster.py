"""Valkey Cluster: the client of one, and which node holds a key.

Every call of Meterline's is about keys of one hash tag, so each has one node. A node that fails takes only its own
slots along, if the cluster runs with ``cluster-require-full-coverage no``.
"""

from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLostError

TLS_SCHEMES = {"valkeys+cluster", "rediss+cluster"}
PORT = 6379


class ClusterClient(RedisCluster):
    """A cluster's client that knows where a Function's key stands, instead of asking a node at each call.

    When one call finds a node gone, the library closes the connections of all; of one that another call was about to
    write to, that call then finds nothing. It is told so like any other whose connection was closed.
    """

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send a command to the node that it is for."""
        try:
            return await super().execute_command(*args, **kwargs)
        except AttributeError as error:
            raise ConnectionLostError("The connection was closed by another call.") from error

    async def _determine_slot(self, command: str, *args: Any) -> int:
        if command == "FCALL":
            return int(self.keyslot(args[2]))
        return int(await super()._determine_slot(command, *args))


def cluster_client(url: str, **options: Any) -> ClusterClient:
    """A client of a cluster; nothing is sent until its first command.

    Args:
        url: ``valkey+cluster://user:password@host:port,host:port``, some of its nodes; ``valkeys+cluster`` with TLS.
        options: passed to the client. A failed command is not repeated here: callers repeat what they may.
    """
    parsed = urlsplit(url)
    credentials, _, nodes = parsed.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    places = (node.rpartition(":") if ":" in node else (node, ":", str(PORT)) for node in nodes.split(","))
    return ClusterClient(
        startup_nodes=[ClusterNode(host, int(port)) for host, _, port in places],
        username=unquote(user) or None,
        password=unquote(password) or None,
        ssl=parsed.scheme in TLS_SCHEMES,
        require_full_coverage=False,
        retry=Retry(NoBackoff(), 1),
        **options,
    )


async def node_of(client: Any, key: str) -> dict[str, Any]:
    """The keyword that sends a command without keys to the node that holds a key; none where there is one node."""
    if not isinstance(client, RedisCluster):
        return {}
    client = await client.initialize()
    return {"target_nodes": client.get_node_from_key(key)}
