"""What a task is given: arrays of any kind and scalars, as the caller writes them and as the task reads them."""
