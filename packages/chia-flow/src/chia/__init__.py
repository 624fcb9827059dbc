"""chia: flows of Python functions on Ray clusters. Start at ``chia.base.ChiaFunction``."""
