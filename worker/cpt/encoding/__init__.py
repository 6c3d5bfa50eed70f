"""Texts to typed tokens: template, context, labelled shots."""
