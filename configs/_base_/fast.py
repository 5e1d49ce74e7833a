# To be added to the _base_ of a config, or --fast of tools/train.py: networks under training and
# the teacher compiled, in bfloat16 where the hardware has it. What it changes: docs/benchmarks.md
fast = True
