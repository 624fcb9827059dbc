"""A block of a heap ring in a region, and a request that is answered."""

import simpler_ipc as ipc

region = ipc.Region(1 << 20)
ring = ipc.HeapRing(region, nbytes=1 << 16)
address = ring.alloc(100)
assert region.contains(address, 100)
assert ring.live == 1
ring.release(address)

mailbox = ipc.Mailbox(ipc.Region(ipc.Mailbox.required_bytes(depth=2, frame_bytes=64)), depth=2, frame_bytes=64)
client, server = mailbox.client(), mailbox.server()
client.send(ipc.TASK, b"hello")
assert bytes(server.recv().payload) == b"hello"
server.reply(0, b"world")
assert bytes(client.poll().payload) == b"world"
