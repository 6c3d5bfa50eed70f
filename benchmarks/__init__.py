"""What the service and its library cost, against named peers measured in the same run.

`python -m benchmarks` measures; `benchmarks.protocol` is the protocol of accuracy figures and measures nothing itself.
"""
