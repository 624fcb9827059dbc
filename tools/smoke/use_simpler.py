"""A SubWorker that doubles an array."""

import simpler

worker = simpler.Worker(level=3, device_ids=[], num_sub_workers=1)


def double(args: simpler.SubTaskArgs) -> None:
    args.array(0)[:] *= 2


handle = worker.register(double)
with worker:
    data = worker.zeros((4,), "float32")
    data[:] = 21
    worker.run(lambda orch, args, config: orch.submit_sub(handle, simpler.TaskArgs().inout(data)))
    assert data.tolist() == [42.0] * 4
