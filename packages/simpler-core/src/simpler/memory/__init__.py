"""What a worker and its children share: arrays, HeapRings, and copies of arrays that children cannot see."""
