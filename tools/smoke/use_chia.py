"""A node, called in this process."""

from chia.base.ChiaFunction import ChiaFunction


@ChiaFunction(num_cpus=1)
def double(value: int) -> int:
    return 2 * value


assert double(21) == 42
