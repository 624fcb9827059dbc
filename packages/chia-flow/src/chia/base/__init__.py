"""The primitives of a flow; users import them from ``chia.base.ChiaFunction``."""
