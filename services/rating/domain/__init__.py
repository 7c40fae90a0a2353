"""The kernel: tariffs, terms, compiling, programs, cycles. Values in, values out; integers only."""
