"""Training steps on fake tensors, which have shapes and no memory: what a step allocates can be counted at any size.

The very engine runs, block by block; only the kernels do not. What is counted is what torch's CPU allocator would be
asked for.
"""
