"""Context-aware Prompt Tuning (arXiv 2410.17222) as a pure library: tensors in, tensors out.

It knows nothing of queues, records or HTTP.
"""
