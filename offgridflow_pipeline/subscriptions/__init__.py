"""Subscriptions: what a tenant may do, and the Stripe events, snapshots and money that decide it."""
