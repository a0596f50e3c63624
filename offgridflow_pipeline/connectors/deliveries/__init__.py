"""What was delivered: objects of a listing, as the newest version of every billing period.

Objects are not opened here, except manifests; reading them is `connectors.reading`.
"""
