"""Captures leads from forms and webhooks and writes each to the CRM once."""
