"""Doors: routes in other services' shapes, one module a vendor.

A door translates. What it asks is a `questions.Question`; how a question is answered, `answering` alone knows.
"""
