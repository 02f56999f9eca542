"""jwsgate: a request passes only with a JWS signed by its application's registered certificate."""

__version__ = "0.1.0"
