"""What the gateway and the worker agree on: names, payloads, job states, error codes.

Pydantic only. It knows neither HTTP, nor Redis, nor torch; both sides import it, and it imports neither.
"""
