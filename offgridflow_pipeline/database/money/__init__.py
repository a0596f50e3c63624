"""Repositories of money: the inbox of Stripe's events, customers and standings."""
