"""Requests are answered at once, and only those of this machine."""

import asyncio
import socket

import pytest

from {{ cookiecutter.__package }} import config, serve


def test_an_answer_does_not_wait_for_the_client_s_acknowledgement():
    """Else the second part of each one comes 40 ms late."""

    async def accepted(listener):
        made = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                made.set_result(transport)

        server = await asyncio.get_running_loop().create_server(Protocol, sock=listener)
        async with server:
            with socket.create_connection(listener.getsockname()):
                transport = await made
                connection = transport.get_extra_info("socket")
                option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                transport.close()
        return option

    assert asyncio.run(accepted(serve.listening(0)))


def test_only_this_machine_reaches_it_and_a_taken_port_is_named():
    with serve.listening(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(config.Refused, match=f"Port {port} is taken"):
            serve.listening(port)
