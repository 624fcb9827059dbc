"""What the benchmarks share: processes that take turns, the machine's own pace, and an honest statistic."""
