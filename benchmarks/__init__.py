"""What the service and its library cost, against named peers measured in the same run.

`python -m benchmarks` measures; `python -m benchmarks.accuracy` measures accuracy.
"""
