"""What every refusal of the runtime is."""


class BundleError(ValueError):
    """A bundle, or what it is given, breaks a rule; the message names what, the rule and what was got, in one line."""
